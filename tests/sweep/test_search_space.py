"""Hydra's override grammar, read as a space to search; and random draws from it."""

import pytest

from ntp.config.errors import ConfigError
from ntp.sweep.random_search import draw
from ntp.sweep.space import Choice, Floats, Integers, read_space

LEARNING_RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-2))"


def only(argument):
    (distribution,) = read_space([argument]).varied.values()
    return distribution


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (LEARNING_RATE, Floats(1e-4, 1e-2, log=True)),
        ("model.dropout=interval(0,0.3)", Floats(0.0, 0.3)),
        ("model.width=int(interval(1,9))", Integers(1, 9)),
        ("model.layers=range(2,8)", Integers(2, 7)),
        ("model.layers=range(2,9,3)", Integers(2, 8, 3)),
        ("model.layers=range(8,2,-2)", Integers(4, 8, 2)),
        ("model.layers=tag(log,range(1,64))", Integers(1, 63, log=True)),
        ("model.dropout=range(0.1,0.5,0.1)", Floats(0.1, 0.4, 0.1)),
        ("objective=causal,mlm", Choice(("causal", "mlm"))),
        ("objective=choice(causal,mlm)", Choice(("causal", "mlm"))),
        ("objective=shuffle(causal,mlm,fim)", Choice(("causal", "mlm", "fim"))),
        ("optimizer.betas=[0.9,0.95],[0.8,0.9]", Choice(("[0.9,0.95]", "[0.8,0.9]"))),
        ("data.path='a b.txt',null", Choice(("'a b.txt'", "null"))),
    ],
)
def test_a_distribution_means_what_it_means_in_a_grid(argument, expected):
    assert only(argument) == expected


def test_what_does_not_vary_is_kept_as_it_was_written():
    space = read_space(["seed=0", "tags=['a b',c]", "~logger", "objective=causal,mlm"])
    assert space.overrides({"objective": "mlm"}) == ["seed=0", "tags=['a b',c]", "~logger", "objective=mlm"]


def test_the_command_line_goes_before_the_params_of_a_file():
    params = {"optimizer.learning_rate": "tag(log, interval(1e-4, 1e-2))", "seed": 3, "objective": "causal,mlm"}
    space = read_space(["objective=fim", "model.layers=1,2"], params)
    assert space.varied == {"optimizer.learning_rate": Floats(1e-4, 1e-2, log=True), "model.layers": Choice(("1", "2"))}
    assert space.fixed == ("seed=3", "objective=fim")


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("seed=0", "hydra/sweeper: nothing varies"),
        ("a.b=interval(1e-2,1e-4)", "a.b: interval(0.01,0.0001) ends before it begins"),
        ("a.b=tag(log,interval(0,1))", "a.b: interval(0.0,1.0) reaches 0.0, which has no logarithm"),
        ("a.b=tag(logg,interval(1,2))", "a.b: there is no tag 'logg' (did you mean 'log'?)"),
        ("a.b=tag(log,choice(1,2))", "a.b: a choice has no logarithm"),
        ("a.b=range(5,2)", "a.b: range(5,2) is empty"),
        ("a.b=range(1,5,0)", "a.b: range(1,5,0) never moves on"),
        ("a.b=tag(log,range(1,9,2))", "a.b: range(1,9,2) has a step"),
        ("a.b=interval(0,inf)", "a.b: interval(0.0,inf) has no end"),
    ],
)
def test_a_distribution_that_cannot_be_is_told_in_one_line(argument, problem):
    with pytest.raises(ConfigError) as caught:
        read_space([argument])
    assert str(caught.value).startswith(problem)


def test_an_unknown_distribution_in_a_file_names_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        read_space([], {"a.b": "uniform(0,1)"})
    assert str(caught.value).startswith("hydra.sweeper.params: a.b=uniform(0,1) can't be read")
    assert "interval" in str(caught.value)


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (Integers(2, 8, 3), {"2", "5", "8"}),
        (Integers(1, 3), {"1", "2", "3"}),
        (Integers(1, 3, log=True), {"1", "2", "3"}),
        (Floats(0.1, 0.4, 0.1), {"0.1", "0.2", "0.3", "0.4"}),
        (Choice(("a", "b")), {"a", "b"}),
    ],
)
def test_every_value_of_a_discrete_distribution_is_drawn_and_no_other(distribution, values):
    assert {distribution.at(number / 1000) for number in range(1000)} == values


def test_continuous_draws_stay_inside_and_are_even_in_the_logarithm_where_asked():
    drawn = [float(Floats(1e-4, 1e-2, log=True).at(number / 1000)) for number in range(1000)]
    assert min(drawn) >= 1e-4
    assert max(drawn) <= 1e-2
    assert sum(value < 1e-3 for value in drawn) == pytest.approx(500, abs=2)
    assert float(Floats(0.1234567891, 0.1234567892).at(0.5)) == pytest.approx(0.12345678915, abs=1e-10)


def test_a_draw_depends_on_the_seed_and_the_number_only():
    space = read_space([LEARNING_RATE, "model.layers=range(2,8)"])
    swapped = read_space(["model.layers=range(2,8)", "seed=1", LEARNING_RATE, "objective=causal,mlm"])
    first = [draw(space, 0, number) for number in range(20)]
    assert first == [draw(space, 0, number) for number in range(20)]
    assert len({one["optimizer.learning_rate"] for one in first}) == 20
    assert first != [draw(space, 1, number) for number in range(20)]
    again = [draw(swapped, 0, number) for number in range(20)]
    assert [{key: one[key] for key in first[0]} for one in again] == first


def test_the_corners_hold_every_choice_and_both_ends():
    space = read_space(["seed=0", LEARNING_RATE, "objective=causal,mlm,fim"])
    assert space.corners() == [
        ["seed=0", "optimizer.learning_rate=0.0001", "objective=causal"],
        ["seed=0", "optimizer.learning_rate=0.01", "objective=causal"],
        ["seed=0", "optimizer.learning_rate=0.0001", "objective=mlm"],
        ["seed=0", "optimizer.learning_rate=0.0001", "objective=fim"],
    ]
