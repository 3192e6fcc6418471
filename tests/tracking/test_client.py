"""Which id a run has at W&B, and what wandb's own files of it tell."""

from pathlib import Path

import pytest

from ablate.tracking.client import Client

RUN = "0123456789abcdef"


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path, "ablate", "somebody", offline=False)


def log(client: Client, run: str, text: str) -> Path:
    folder = client.folder / "wandb" / f"run-20260101_000000-{run}"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "debug-internal.log").write_text(text)
    return folder


def test_a_run_that_is_renewed_never_gets_an_id_again(client: Client) -> None:
    assert client.ids(RUN) == [RUN]
    client.renew(RUN)
    client.renew(RUN)
    assert client.ids(RUN) == [RUN, f"{RUN}-1", f"{RUN}-2"]
    again = Client(client.folder, "ablate", None, offline=False)
    assert again.ids(RUN) == client.ids(RUN)
    assert again.ids("fedcba9876543210") == ["fedcba9876543210"]


def test_the_page_of_a_run_is_that_of_its_present_id(client: Client) -> None:
    client.renew(RUN)
    url = client.url_of(RUN)
    assert url is not None
    assert url.endswith(f"/somebody/ablate/runs/{RUN}-1")
    assert Client(client.folder, "ablate", "somebody", offline=True).url_of(RUN) is None


@pytest.mark.parametrize("id_", [RUN, f"{RUN}-1"])
def test_nonsense_is_known_from_what_a_client_that_was_killed_has_left(id_: str, client: Client) -> None:
    assert not client.took_nonsense(RUN)
    log(client, "fedcba9876543210", '{"msg": "json decode error: invalid character"}')
    assert not client.took_nonsense(RUN)
    log(client, id_, '{"msg": "json decode error: invalid character"}')
    assert client.took_nonsense(RUN)
