"""One odd result does not take a table with it."""

import pytest

from lit_scaledrop.report.sound import from_sound
from lit_scaledrop.results.store import load_results, write_result


def widths(results):
    return [result.config["model"]["init_args"]["width"] for result in results]


def test_an_odd_result_is_named_and_left_out(make):
    config = {"model": {"init_args": {"width": 0.5}}}
    results = [make(1, config=config), make(2, config={}), make(3, config=config), make(4, config={"model": 5})]
    said = []
    assert from_sound(widths, results, said.append) == [0.5, 0.5]
    assert [text.split()[3] for text in said] == ["000000000002", "000000000004"]
    assert from_sound(widths, results[:1], said.append) == [0.5]
    with pytest.raises(ValueError, match="nothing can be made of the results"):
        from_sound(widths, results[1:2], said.append)


def test_one_that_does_not_go_with_the_others_is_left_out(make):
    found = [
        make(number, config={"model": {"init_args": {"width": width}}}) for number, width in enumerate((1, "x", 3))
    ]
    said = []
    assert from_sound(lambda some: sorted(widths(some)), found, said.append) == [1, 3]
    assert ["000000000001" in text and "'<' not supported" in text for text in said] == [True]


def test_a_fault_of_the_table_itself_is_not_the_results(make):
    def broken(results):
        if len(results) > 1:
            raise KeyError("x")

    with pytest.raises(ValueError, match="KeyError 'x'"):
        from_sound(broken, [make(1), make(2)], print)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"model": 5}}, "config.model has no settings"),
        ({"config": {"data": {"init_args": 3}}}, "config.data.init_args is 3"),
        ({"provenance": {"command": "scaledrop 'fit"}}, "provenance.command: No closing quotation"),
    ],
)
def test_what_no_table_can_read_is_left_out_when_it_is_loaded(make, tmp_path, change, message):
    write_result(make(1), tmp_path)
    write_result(make(2, **change), tmp_path)
    results, problems = load_results(tmp_path, "cpu", "table3")
    assert [result.id for result in results] == ["000000000001"]
    assert len(problems) == 1
    assert message in problems[0]
