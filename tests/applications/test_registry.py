"""docs/applications/registry.md, with Debian's docker-registry and skopeo."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import requests

from tests.applications.recipe import WITHIN_S, Recipe, followed, recipe_fixture
from tests.certificates import self_signed

pytestmark = pytest.mark.slow

PROGRAMS = ["docker-registry", "skopeo", "jq", "curl"]


registry = recipe_fixture(
    "registry", "program:5000", "gateway", "account", "key", "login", "client", programs=PROGRAMS
)


def layer_of(image: Path) -> bytes:
    """The one layer of an OCI layout, as a tar."""

    def blob(descriptor: dict[str, str]) -> bytes:
        return (image / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()

    manifest = json.loads(blob(json.loads((image / "index.json").read_bytes())["manifests"][0]))
    layer = blob(manifest["layers"][0])
    return gzip.decompress(layer) if layer.startswith(b"\x1f\x8b") else layer


def test_what_was_pushed_is_pulled_by_another(registry: Recipe) -> None:
    registry.run("pull")
    with tarfile.open(fileobj=io.BytesIO(layer_of(registry.folder / "pulled"))) as tar:
        file = tar.extractfile("image.py")
        assert file is not None
        assert file.read() == (registry.folder / "image.py").read_bytes()


def test_a_layer_larger_than_any_default_goes_up_and_comes_down(registry: Recipe) -> None:
    program = (registry.folder / "image.py").read_text("utf-8")
    assert 'tar.add("image.py")' in program
    (registry.folder / "large.bin").write_bytes(os.urandom(40 << 20))
    (registry.folder / "large.py").write_text(
        program.replace('tar.add("image.py")', 'tar.add("large.bin")').replace("image/", "large/")
    )
    made = subprocess.run(["python3", "large.py"], cwd=registry.folder, check=False)
    assert made.returncode == 0
    there = f"docker://127.0.0.1:{registry.gateway}/team/large:1"
    for source, target in (("oci:large:latest", there), (there, "oci:back:latest")):
        done = skopeo(
            registry, "copy", "--authfile", "auth.json",
            "--src-tls-verify=false", "--dest-tls-verify=false", source, target,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert layer_of(registry.folder / "back") == layer_of(registry.folder / "large")


def test_a_key_that_pulls_does_not_push(registry: Recipe) -> None:
    refused = registry.run("refused", check=False)
    assert refused.returncode != 0
    assert "denied" in refused.stderr or "403" in refused.stderr, refused.stderr
    assert json.loads(registry.run("tags").stdout)["Tags"] == ["1"]


def test_a_wrong_key_is_refused(registry: Recipe) -> None:
    refused = skopeo(
        registry, "login", "--authfile", "stranger.json", "--tls-verify=false",
        "--username", "ada", "--password", "agp_" + "0" * 49, f"127.0.0.1:{registry.gateway}",
    )  # fmt: skip
    assert refused.returncode != 0
    assert "invalid username/password" in refused.stderr


@pytest.mark.parametrize("forged", [{}, {"X-Forwarded-Host": "evil.example"}])
def test_uploads_are_led_through_the_gateway(registry: Recipe, forged: dict[str, str]) -> None:
    key = (registry.folder / "key").read_text("utf-8").strip()
    answer = requests.post(
        f"{registry.url}/v2/team/app/blobs/uploads/",
        auth=("ada", key),
        headers=forged | {"X-Forwarded-Proto": "gopher"},
        timeout=WITHIN_S,
    )
    assert answer.status_code == 202
    assert answer.headers["Location"].startswith(f"{registry.url}/v2/team/app/blobs/uploads/")


def test_over_tls_layers_are_led_to_https(tmp_path: Path) -> None:
    with followed("registry", tmp_path, programs=PROGRAMS) as recipe:
        for title, text in recipe.blocks.items():
            text = re.sub(r" --(src-|dest-)?tls-verify=false", "", text)
            recipe.blocks[title] = text.replace("http://127.0.0.1:8080", "https://127.0.0.1:8080")
        certificate, key = map(str, self_signed("127.0.0.1").write(tmp_path))
        recipe.environment |= {
            "GATEWAY_PUBLIC_URL": f"https://127.0.0.1:{recipe.gateway}",
            "GATEWAY_TLS_CERT": certificate,
            "GATEWAY_TLS_KEY": key,
            "SSL_CERT_FILE": certificate,
            "CURL_CA_BUNDLE": certificate,
        }
        recipe.follow("program:5000", "gateway", "account", "key", "login", "client", "pull")
        assert layer_of(tmp_path / "pulled") == layer_of(tmp_path / "image")


def skopeo(recipe: Recipe, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["skopeo", *arguments],
        cwd=recipe.folder,
        env=recipe.environment,
        capture_output=True,
        text=True,
        check=False,
    )
