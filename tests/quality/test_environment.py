import json

from edgecache.quality import environment


def test_the_manifest_names_machine_versions_commit_and_models() -> None:
    found = environment.manifest(seed=7, models={"embedder": "e:1"})
    assert found["seed"] == 7
    assert found["models"] == {"embedder": "e:1"}
    assert found["packages"]["numpy"]
    assert found["cores"] >= 1
    assert found["cpu"]
    assert found["commit"] is None or len(found["commit"]) == 40
    json.dumps(found)
