"""The emulator itself: what it computes, and the faults it refuses."""

from __future__ import annotations

from types import ModuleType

import pytest


def test_grid_and_block_indices(module: ModuleType) -> None:
    assert module.self_test("place") == [1000 * block + thread for block in range(6) for thread in range(16)]


def test_shuffles(module: ModuleType) -> None:
    lanes = range(32)
    assert module.self_test("shuffle") == [
        *(lane ^ 5 for lane in lanes),
        *(lane + 3 if lane + 3 < 32 else lane for lane in lanes),
        *(lane + 3 if lane % 8 + 3 < 8 else lane for lane in lanes),
    ]


def test_shared_memory(module: ModuleType) -> None:
    assert module.self_test("reverse")[:64] == list(range(63, -1, -1))


def test_threads_come_in_another_order_each_time(module: ModuleType) -> None:
    orders = [tuple(module.self_test("order")[:64]) for _ in range(3)]
    assert len(set(orders)) == 3
    assert all(sorted(order) == list(range(64)) for order in orders)


def test_same_seed_same_order(module: ModuleType) -> None:
    orders = []
    for _ in range(2):
        module.set_seed(5)
        orders.append(module.self_test("order"))
    assert orders[0] == orders[1]


def test_shared_memory_of_another_block_is_forgotten(module: ModuleType) -> None:
    is_nan_after_no_write, is_nan_after_write = module.self_test("unwritten")[:2]
    assert is_nan_after_no_write
    assert not is_nan_after_write


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("half barrier", "a barrier or shuffle that not all threads reach"),
        ("half shuffle", "a shuffle that leaves out lanes"),
        ("assert", "device-side assertion: threadIdx.x < 5"),
        ("big block", "a block beyond the limits of CUDA"),
        ("big grid", "a grid beyond the limits of CUDA"),
        ("empty grid", "a grid beyond the limits of CUDA"),
        ("big memory", "more than 48 KiB of dynamic shared memory"),
    ],
)
def test_faults_are_refused(module: ModuleType, fault: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        module.self_test(fault)
    assert module.self_test("reverse")[:64] == list(range(63, -1, -1))  # and the next launch is sound
