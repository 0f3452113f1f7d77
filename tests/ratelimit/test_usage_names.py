"""The names of the counts in responses are those of the SDKs' types. With the oldest versions, no SDK is installed."""

from __future__ import annotations

import json

import pytest

from flexmw.ratelimit.usage_formats import FORMATS

GOOGLE, COHERE = FORMATS["google"], FORMATS["cohere"]


def test_the_counts_of_google_have_the_names_of_its_sdk() -> None:
    types = pytest.importorskip("google.genai.types")
    report = types.GenerateContentResponseUsageMetadata(
        prompt_token_count=7,
        tool_use_prompt_token_count=20,
        candidates_token_count=3,
        thoughts_token_count=100,
        cached_content_token_count=4,
        total_token_count=130,
    )
    response = types.GenerateContentResponse(usage_metadata=report, model_version="gemini-x")
    usage = GOOGLE.read(json.loads(response.model_dump_json(by_alias=True, exclude_none=True)), None)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (27, 103, 130)
    assert (usage.cached_tokens, usage.model) == (4, "gemini-x")


def test_the_counts_of_cohere_have_the_names_of_its_sdk() -> None:
    types = pytest.importorskip("cohere.types")
    billed = types.UsageBilledUnits(input_tokens=3, output_tokens=4)
    tokens = types.UsageTokens(input_tokens=70, output_tokens=5)
    report = json.loads(types.Usage(billed_units=billed, tokens=tokens, cached_tokens=2).json())
    usage = COHERE.read({"usage": report}, None)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (70, 5, 2)
    assert usage.details["billed_units"]["input_tokens"] == 3
    embedded = types.ApiMeta(billed_units=types.ApiMetaBilledUnits(input_tokens=9)).json()
    usage = COHERE.read({"embeddings": [], "meta": json.loads(embedded)}, None)
    assert usage is not None
    assert usage.total_tokens == 9
    assert COHERE.read({"meta": {"billed_units": {"search_units": 1}}}, None) is None
