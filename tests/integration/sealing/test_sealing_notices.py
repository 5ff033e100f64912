"""Notices of sealed Secrets through a real Redis, without values or ciphertexts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from support.modules import run_modules
from support.sealing import Chain
from support.servers import RedisServer, running

PLAIN = "follow-the-white-rabbit"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    with running(server, server.start):
        yield server


def task(chain: Chain, name: str, server: RedisServer, **options: Any) -> dict[str, Any]:
    notices = {"redis_url": server.url, "redis_password_file": str(server.password_file), "redis_ca_cert": server.ca}
    base = {"name": name, "namespace": chain.namespace, "transit_key": "derived"}
    return {"kubevault_secret": {**base, **notices, **options}}


def test_each_write_is_announced_and_nothing_else(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], redis_server: RedisServer
) -> None:
    with redis.Redis(
        host="127.0.0.1", port=redis_server.port, password=RedisServer.password, ssl=True, ssl_ca_certs=redis_server.ca
    ) as witness:
        listening = witness.pubsub(ignore_subscribe_messages=True)
        listening.psubscribe("*")
        assert listening.get_message(timeout=10) is None  # subscribed
        sealing = task(chain, name, redis_server, data={"text": PLAIN})
        absent = task(chain, name, redis_server, state="absent")
        tasks = [{**sealing, "check_mode": True}, sealing, sealing, absent]
        run_modules(tasks, tmp_path, env)
        messages = [listening.get_message(timeout=10), listening.get_message(timeout=10)]
        assert listening.get_message(timeout=0.2) is None
    assert {message["channel"].decode() for message in messages} == {f"kubevault:{chain.namespace}/{name}"}
    created, deleted = (json.loads(message["data"]) for message in messages)
    place = {"format": 1, "namespace": chain.namespace, "name": name}
    assert created == {**place, "resource_version": created["resource_version"], "key_versions": {"derived": 1}}
    assert created["resource_version"].isdecimal()
    assert deleted == {**place, "resource_version": "", "key_versions": {}}


def test_a_redis_that_is_away_is_a_warning(
    chain: Chain, name: str, tmp_path: Path, env: dict[str, str], redis_server: RedisServer
) -> None:
    redis_server.kill()
    (result,) = run_modules([task(chain, name, redis_server, data={"text": PLAIN})], tmp_path, env)
    assert result["secret"]["action"] == "created"
    assert "are written, but not announced" in result["warnings"][0]
    assert chain.opened(name) == {"text": PLAIN.encode()}
