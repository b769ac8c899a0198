from daemon.worklist import Worklist
from state.model import FULL


async def test_a_project_that_is_searched_before_it_is_in_line_comes_first_when_it_is() -> None:
    worklist = Worklist(lambda: 0.0, lambda longest: longest)
    worklist.favour(3)
    for project_id in (1, 2, 3, 4):
        worklist.mark(project_id, FULL)
    taken = [(await worklist.take())[0] for _ in range(4)]
    assert taken == [3, 1, 2, 4]


async def test_the_latest_search_goes_first_and_once() -> None:
    worklist = Worklist(lambda: 0.0, lambda longest: longest)
    for project_id in (1, 2, 3, 4):
        worklist.mark(project_id, FULL)
    worklist.favour(4)
    worklist.favour(3)
    assert [(await worklist.take())[0] for _ in range(2)] == [3, 4]
    worklist.done(3)
    worklist.mark(3, FULL)
    assert [(await worklist.take())[0] for _ in range(3)] == [1, 2, 3]
