"""Open checkpointers from mappings as graph files have them: variables, suggestions, and what is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore import ConfigError, ThreadConflict
from streamcore.checkpoints import Checkpointer, MemoryCheckpointer, open_checkpointer
from streamcore.checkpoints.codec import decode, encode
from streamcore.errors import CheckpointError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "`type` must be one of memory, sqlite, redis, redis-simple, postgres, not 'None'"),
        ({"type": "sqlit", "path": "x"}, "not 'sqlit'; did you mean 'sqlite'?"),
        ({"type": ["sqlite"]}, "`type` must be one of"),
        ({"type": "sqlite", "pth": "x"}, "unknown key 'pth'; did you mean 'path'?"),
        ({"type": "memory", "zzz": 1}, "unknown key 'zzz'; known are type"),
        ({"type": "sqlite"}, "the key 'path' is missing, as in path: threads.db"),
        ({"type": "sqlite", "path": 5}, "the key 'path' must be text"),
        ({"type": "sqlite", "path": "${NO_SUCH}/x.db"}, "names ${NO_SUCH}, and the environment variable NO_SUCH is"),
        ({"type": "redis"}, "the key 'url' is missing"),
        ({"type": "redis", "url": "redis://localhost", "ttl": 0}, "`ttl` is a number of minutes above 0, not 0"),
        ({"type": "redis", "url": "redis://localhost", "ttl": True}, "`ttl` is a number of minutes"),
        ({"type": "redis", "url": "redis://localhost", "ttl": "soon"}, "`ttl` is a number of minutes"),
        ({"type": "redis", "url": "redis://localhost", "prefix": ""}, "the key 'prefix' must be text"),
        ({"type": "postgres"}, "the key 'url' is missing, as in url: postgresql://localhost/threads"),
        ({"type": "postgres", "url": "postgresql://h/d", "ttl": 1}, "unknown key 'ttl'"),
        ({"type": "postgres", "url": "postgresql://h/d", "schema": "a b"}, "a schema's name has a-z 0-9 _"),
        ("threads.db", "a checkpointer is a mapping"),
        ("mysql://secret@host", "the URL of a checkpointer must be postgresql://"),
        ("sqlite:///", "the URL of a checkpointer must be"),
    ],
)
def test_invalid_settings_raise(config: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_checkpointer(config)
    assert says in str(caught.value)


async def test_variables_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_FOLDER", str(tmp_path))
    monkeypatch.setenv("TTL", "30")
    await open_checkpointer({"type": "sqlite", "path": "${DATA_FOLDER}/t.db"}).save("t", {}, 0)
    assert await anyio.Path(tmp_path / "t.db").exists()
    open_checkpointer({"type": "redis", "url": "redis://localhost", "ttl": "${TTL}"})
    saved = await open_checkpointer("sqlite:///${DATA_FOLDER}/t.db").load("t")
    assert saved is not None
    assert saved.version == 1


async def test_a_ready_one_is_returned_and_memory_is_shared() -> None:
    mine: Checkpointer = MemoryCheckpointer()
    assert open_checkpointer(mine) is mine
    assert open_checkpointer(None) is open_checkpointer({"type": "memory"})


def test_every_cut_and_every_changed_bit_of_a_checkpoint_raises() -> None:
    stored = encode("t", {"state": {"name": "Ada"}}, 7)
    assert decode("t", stored, "here").version == 7
    with pytest.raises(CheckpointError, match="thread 'other' in here is damaged"):
        decode("other", stored, "here")
    spoilt = [stored[:end] for end in range(len(stored))]
    spoilt += [stored + b" ", b"", b"\n", b"streamcore/1 7\n{}", b"\xff" * 90]
    spoilt += [
        stored[:at] + bytes([stored[at] ^ 1 << bit]) + stored[at + 1 :] for at in range(len(stored)) for bit in range(8)
    ]
    for one in spoilt:
        with pytest.raises(CheckpointError):
            decode("t", one, "here")


def test_data_that_contain_themselves_raise() -> None:
    data: dict[str, Any] = {}
    data["again"] = data
    with pytest.raises(CheckpointError, match="nested too deeply"):
        encode("t", data, 1)


async def test_the_error_of_a_conflict_names_the_remedy() -> None:
    store = MemoryCheckpointer()
    await store.save("t", {}, 0)
    with pytest.raises(
        ThreadConflict, match=r"another worker has changed thread 't'.*version 1, and none was expected"
    ):
        await store.save("t", {}, 0)
