"""Scores one text against one target, as the platform does."""

from evalmesh.domain.completion import Completion, FinishReason
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.final_answer import score_final_answer, score_final_answer_symbolic


def judge(text: str, target: str, finish_reason: FinishReason = "stop") -> Score:
    sample = Sample(id="d/0", index=0, subset="d", input="?", target=(target,))
    completion = Completion(sample_id="d/0", repeat=2, digest="", text=text, finish_reason=finish_reason)
    score = score_final_answer(sample, completion)
    return score_final_answer_symbolic(sample, completion) if score is None else score
