"""The profiles file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from modelyard.observe.profiles import ProfilesError, ProfilesFile, parse_profiles

GOOD = "profiles: {default: {trainerImage: t, agentImage: a}}"
BETTER = "profiles: {default: {trainerImage: t2, agentImage: a}}"


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(GOOD)
    assert ProfilesFile(path).settings.profiles["default"].trainer_image == "t"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("profiles: [", "not YAML"),
        ("", "file"),
        ("profiles: {default: {trainerImage: t}}", "profiles.default.agentImage"),
        ("profiles: {default: {trainerImage: t, agentImage: a, gpus: 1}}", "profiles.default.gpus"),
    ],
)
def test_a_bad_file_is_refused_with_the_place_of_the_mistake(text: str, hint: str) -> None:
    with pytest.raises(ProfilesError, match=hint):
        parse_profiles(text, "profiles.yaml")


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(ProfilesError, match="--profiles"):
        ProfilesFile(tmp_path / "none.yaml")


def test_a_change_is_taken_over_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(GOOD)
    profiles = ProfilesFile(path)
    assert profiles.reload() is False
    path.write_text(BETTER)
    assert profiles.reload() is True
    path.write_text("profiles: [")
    assert profiles.reload() is False
    path.unlink()
    assert profiles.reload() is False
    assert profiles.settings.profiles["default"].trainer_image == "t2"


def test_a_file_that_can_not_be_used_is_told_once_and_again_when_it_is_wrong_in_another_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(GOOD)
    profiles = ProfilesFile(path)
    for text, told in (("profiles: [", 1), ("profiles: 3", 2), (GOOD, 2), ("profiles: 3", 3)):
        path.write_text(text)
        assert not profiles.reload()
        assert not profiles.reload()
        assert len(caplog.records) == told


def test_a_swapped_link_is_noticed_as_kubelets_do_it(tmp_path: Path) -> None:
    for name, text in (("1", GOOD), ("2", BETTER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "profiles.yaml").write_text(text)
    data = tmp_path / "data"
    data.symlink_to("1")
    profiles = ProfilesFile(data / "profiles.yaml")
    changes: list[str] = []

    async def scenario() -> None:
        task = asyncio.create_task(profiles.follow(lambda: changes.append("changed"), every=0.01))
        await asyncio.sleep(0.05)
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").rename(data)
        await asyncio.sleep(0.1)
        task.cancel()

    asyncio.run(scenario())
    assert changes == ["changed"]
