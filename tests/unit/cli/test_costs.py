from evalmesh.cli.eval.costs import cost_line, money, tokens_of


def report(*usages, seconds=2.5):
    return {"run": {"duration_s": seconds}, "benchmarks": [{"name": "b", "usage": usage} for usage in usages]}


def test_tokens_seconds_and_money_are_one_line():
    usage = {"input_tokens": 600_000, "output_tokens": 50_000}
    assert cost_line(report(usage, usage), []) == "tokens   1,200,000 input and 100,000 output in 2.5 s"
    line = cost_line(report(usage, usage), [0.5, 2])
    assert line.endswith("in 2.5 s, 0.8000 at 0.5 and 2 a million")


def test_an_endpoint_that_tells_of_no_tokens_costs_no_line():
    assert cost_line(report({}, None, {"input_tokens": None}), [1, 1]) == ""


def test_estimates():
    assert (tokens_of(0), tokens_of(1), tokens_of(9)) == (0, 1, 3)
    assert money(1_000_000, 500_000, (2, 4)) == 4
