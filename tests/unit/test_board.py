"""What people are told about each project."""

import pytest
from still_clock import Clock

from daemon.board import Board
from state.model import Progress, TaskStatus


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(clock)


def test_a_project_never_looked_at_has_no_progress(board: Board) -> None:
    assert not board[1].stale
    assert board.progress() == {}


def test_progress_is_what_is_done_of_what_there_is(board: Board) -> None:
    standing = board.begin(1, 10)
    standing.current += 4
    assert board.progress() == {1: Progress(1, 10, 4, TaskStatus.RUNNING)}
    standing.current += 8
    assert board.progress()[1].current == 10


def test_stale_images_age_from_when_the_first_was_found(board: Board, clock: Clock) -> None:
    standing = board.begin(1, 10)
    assert (standing.stale, board.stale_seconds(1)) == (0, 0.0)
    board.stale(standing)
    clock.seconds += 5
    board.stale(standing)
    standing.current += 7
    assert (standing.stale, board.stale_seconds(1)) == (3, 5.0)


def test_a_completed_look_leaves_nothing_stale(board: Board) -> None:
    standing = board.begin(1, 10)
    board.stale(standing)
    standing.outdated = 2
    board.end(1, TaskStatus.COMPLETED, whole=True)
    assert (standing.stale, standing.outdated, board.stale_seconds(1)) == (0, 0, 0.0)
    assert board.progress() == {1: Progress(1, 10, 10, TaskStatus.COMPLETED)}


def test_images_that_could_not_be_had_stay_stale_after_a_completed_look(board: Board, clock: Clock) -> None:
    standing = board.begin(1, 10)
    board.stale(standing)
    standing.current, standing.outdated = 7, 1
    board.end(1, TaskStatus.COMPLETED, whole=True, left=3)
    clock.seconds += 9
    assert (standing.stale, standing.outdated, board.stale_seconds(1)) == (3, 1, 9.0)


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_a_look_that_did_not_end_well_leaves_things_stale(board: Board, status: TaskStatus) -> None:
    standing = board.begin(1, 10)
    board.stale(standing)
    board.end(1, status, whole=True)
    assert standing.stale == 10
    assert not standing.looked_at


def test_only_a_look_at_everything_says_that_all_was_looked_at(board: Board) -> None:
    board.begin(1, 1)
    board.end(1, TaskStatus.COMPLETED, whole=False)
    assert not board[1].looked_at
    board.end(1, TaskStatus.COMPLETED, whole=True)
    board.end(1, TaskStatus.COMPLETED, whole=False)
    assert board[1].looked_at


def test_a_project_that_is_gone_is_forgotten(board: Board) -> None:
    board.begin(1, 1)
    board.drop(1)
    board.drop(2)
    assert list(board) == []
