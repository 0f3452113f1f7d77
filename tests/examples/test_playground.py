"""The script of the playground, run by node against the gateway."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from examples.gateway.serve import backend, gateway
from examples.gateway.wire import cutting
from tests.servers import skip_unless

FOLDER = Path(__file__).parent.parent.parent / "examples" / "gateway"
SCRIPT = FOLDER / "playground.js"
PAGE = FOLDER / "playground.html"
BROWSER = Path(__file__).with_name("playground_page.mjs")
CUTS = 3
PROGRAM = """
const { stream } = await import(process.argv[2]);
const [url, key] = process.argv.slice(3);
const length = { min_tokens: 60, max_tokens: 60 };
const body = { model: "alice-3gram", stream: true, messages: [{ role: "user", content: "Hello" }], ...length };
let text = "", cuts = 0;
const onCut = () => { cuts += 1; };
for await (const piece of stream(url, { key, body, onCut, pauses: [0, 0, 0, 0, 0] })) text += piece;
console.log(JSON.stringify({ text, cuts }));
"""


def test_the_playground_reads_one_whole_stream_through_cuts(tmp_path: Path) -> None:
    node = shutil.which("node")
    skip_unless(node, "node")
    program, module = tmp_path / "program.mjs", tmp_path / "playground.mjs"
    program.write_text(PROGRAM)
    module.write_text(SCRIPT.read_text())
    with backend() as models, gateway(models.url) as running:
        key, _ = running.admin.create_key()
        with cutting(running.url, cuts=CUTS, after=2_000) as wire:
            url = f"{wire.url}/v1/chat/completions"
            command = [str(node), str(program), str(module), url, key]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        executions = sum(models.work().values())
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    events = [line for line in seen["text"].split("\n") if line]
    assert seen["cuts"] == wire.cuts == CUTS
    assert events[-1] == "data: [DONE]"
    assert all("choices" in json.loads(event.removeprefix("data: ")) for event in events[:-1])
    assert executions == 1


def test_the_page_shows_one_response_at_a_time_and_every_error(tmp_path: Path) -> None:
    node = shutil.which("node")
    skip_unless(node, "node")
    html = PAGE.read_text()
    script = html.partition('<script type="module">')[2].partition("</script>")[0]
    (tmp_path / "playground.mjs").write_text(SCRIPT.read_text())
    (tmp_path / "page.mjs").write_text(script.replace("./playground.js", "./playground.mjs"))
    command = [str(node), str(BROWSER), str(tmp_path / "page.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["during"] == {"text": "Who", "status": "", "busy": True, "calls": 1}
    assert seen["whole"] == {"text": "Who are you?", "status": "", "busy": False, "calls": 1}
    assert seen["refused"]["status"] == "401 invalid_api_key: Invalid API key provided."
    lost = "The connection to the gateway was lost (Failed to fetch). Is it still running?"
    assert seen["lost"] == {"text": "", "status": lost, "busy": False, "calls": 3}
    assert "demo key</em> that the gateway prints" in html
