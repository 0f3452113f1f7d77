#!/usr/bin/env bash
# A webhook signed at a time that has a zone is refused by its receiver.
# Expected: `sign(id, datetime, body)` signs the second that `datetime.timestamp()` gives, whatever its zone.
# Seen: standardwebhooks and svix put UTC in place of the zone, so that 12:00 in Berlin is signed as 12:00 UTC: with the
# header webhook-timestamp of that moment each webhook is "No matching signature found". The same moment in UTC verifies.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'standardwebhooks==1.1.0' 'svix==2.9.1'
"$work/venv/bin/python" - <<'PYTHON'
import base64
from datetime import UTC, datetime, timedelta, timezone
from importlib.metadata import version

import standardwebhooks
import svix.webhooks

SECRET = "whsec_" + base64.b64encode(b"a secret of the shop").decode()
BODY = '{"order":1}'


def verified(webhook, prefix, error, moment):
    headers = {
        f"{prefix}-id": "order-1",
        f"{prefix}-timestamp": str(int(moment.timestamp())),
        f"{prefix}-signature": webhook.sign("order-1", moment, BODY),
    }
    try:
        webhook.verify(BODY, headers)
    except error as refusal:
        return str(refusal)
    return "verified"


now = datetime.now(UTC)
moments = {"UTC": now, "UTC+1": now.astimezone(timezone(timedelta(hours=1)))}
seen = {}
for name, package, prefix in (("standardwebhooks", standardwebhooks, "webhook"), ("svix", svix.webhooks, "svix")):
    webhook, error = package.Webhook(SECRET), package.WebhookVerificationError
    seen[name] = {zone: verified(webhook, prefix, error, moment) for zone, moment in moments.items()}
    print(f"{name} {version(name)}: {seen[name]}")
expected = {"UTC": "verified", "UTC+1": "No matching signature found"}
raise SystemExit(0 if all(zones == expected for zones in seen.values()) else "changed: a zone changes nothing")
PYTHON
