"""The pytest plug-in, in a pytest of its own."""

import pytest

pytest_plugins = ["pytester"]

QUICK = ("arrays_fit", "draws_differ", "no_target_is_seen")


def test_three_lines_make_a_test_of_each_check(pytester):
    from ntp.testing import check_names

    pytester.makepyfile(
        """
        from ntp.objectives.prefix_lm import PrefixLM
        from ntp.testing import conformance_tests

        test_prefix_lm = conformance_tests(PrefixLM(fraction=0.5))
        """
    )
    names = [f"test_prefix_lm[[]{name}]" for name in check_names()]
    result = pytester.runpytest_inprocess("--collect-only", "-q", "--strict-markers")
    result.stdout.fnmatch_lines([f"*::{name}" for name in names])
    assert len([line for line in result.outlines if "::" in line]) == len(names)


def test_a_check_passes_is_skipped_or_fails_with_what_is_wrong_and_nothing_else(pytester):
    pytester.makepyfile(
        f"""
        from dataclasses import replace
        from ntp.objectives.causal import Causal
        from ntp.testing import conformance_tests

        class Copying(Causal):
            def corrupt(self, row, draw):
                made = super().corrupt(row, draw)
                return replace(made, targets=made.tokens, target_bytes=row.bytes[:-1])

        test_both = conformance_tests(Causal, Copying(), checks={QUICK!r})
        """
    )
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(passed=3, skipped=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_both[[]Copying-no_target_is_seen] _*",
            "E*Copying breaks no_target_is_seen: no position that is trained can see its own target",
            "E*seen:*position 0*",
            "E*look for: a shift of the targets by 0*",
            "*does not apply: nothing about it is random*",
        ]
    )
    assert "registry.py" not in result.stdout.str()


def test_the_marker_and_its_fixture_do_the_same(pytester):
    pytester.makepyfile(
        """
        import pytest
        from ntp.objectives.causal import Causal

        @pytest.mark.ntp_objectives(Causal(), quick=True, checks=["arrays_fit"])
        def test_it_keeps_the_rules(ntp_check, tmp_path):
            assert tmp_path.exists()
            ntp_check()
        """
    )
    result = pytester.runpytest_inprocess("-v", "--strict-markers")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_it_keeps_the_rules[[]arrays_fit] PASSED*"])


def test_the_fixture_without_its_marker_says_what_is_missing(pytester):
    pytester.makepyfile("def test_it(ntp_check): ntp_check()")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ntp_check needs @pytest.mark.ntp_objectives(an objective)*"])


@pytest.mark.parametrize("count", [1, 2])
def test_objectives_are_told_apart_by_their_names(pytester, count):
    pytester.makepyfile(
        f"""
        from ntp.objectives.prefix_lm import PrefixLM
        from ntp.testing import conformance_tests

        test_all = conformance_tests(*[PrefixLM(fraction=0.5)] * {count}, checks=["arrays_fit"])
        """
    )
    expected = ["arrays_fit"] if count == 1 else ["PrefixLM0-arrays_fit", "PrefixLM1-arrays_fit"]
    result = pytester.runpytest_inprocess("--collect-only", "-q")
    result.stdout.fnmatch_lines([f"*::test_all[[]{name}]" for name in expected])
