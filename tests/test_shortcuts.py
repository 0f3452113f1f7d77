from __future__ import annotations

import ssl

import certifi
import trustme


def test_a_context_of_a_client_reads_no_bundle_of_public_authorities() -> None:
    assert ssl.create_default_context(cafile=certifi.where()).get_ca_certs() == []


def test_a_context_trusts_the_authority_of_a_test() -> None:
    context = ssl.create_default_context(cafile=certifi.where())
    trustme.CA().configure_trust(context)
    assert len(context.get_ca_certs()) == 1
    with trustme.CA().cert_pem.tempfile() as file:
        context.load_verify_locations(file)
    assert len(context.get_ca_certs()) == 2
