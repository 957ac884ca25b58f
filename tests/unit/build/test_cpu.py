import pytest

from mnasbench.build import cpu


@pytest.fixture(autouse=True)
def x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.platform, "machine", lambda: "x86_64")


@pytest.mark.parametrize(
    ("flags", "exact"),
    (("fpu avx2 avx512_vnni", True), ("fpu avx_vnni", True), ("fpu avx2 avx512bw", False), ("", False)),
)
def test_vnni_is_read_from_the_flags(flags: str, exact: bool) -> None:
    text = f"processor\t: 0\nmodel name\t: avx512_vnni in a name\nflags\t\t: {flags}\n"
    assert cpu.sums_int8_exactly(text) is exact


def test_one_core_without_it_is_enough_to_saturate() -> None:
    assert not cpu.sums_int8_exactly("flags : avx_vnni\nflags : avx2\n")


def test_a_system_that_does_not_say_counts_as_without() -> None:
    assert not cpu.sums_int8_exactly("")


def test_arm_does_not_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    assert cpu.sums_int8_exactly()
