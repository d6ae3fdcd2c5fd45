"""What a token comes to: text, a thought, a piece of a call, and whether the answer ends with it."""

from __future__ import annotations

from dataclasses import replace

from engine.request import FinishReason, Output
from engine.sampler import SampledToken
from engine.sequence import Sequence


def extend(sequence: Sequence, index: int, sampled: SampledToken, eos_token_ids: frozenset[int]) -> Output:
    """See whether a sequence ends with the token at an index."""
    params, token = sequence.request.params, sampled.token_id
    num_output_tokens = index + 1 - sequence.num_prompt_tokens
    may_stop = num_output_tokens >= params.min_tokens
    is_eos = token in eos_token_ids and not params.ignore_eos
    is_cut = sequence.guide is not None and sequence.guide.is_cut
    reason: FinishReason | None
    # Where it may not stop, such a token is not drawn, but it may be what ends a thought.
    if may_stop and (is_eos or token in params.stop_tokens):
        text, _ = sequence.text.flush()
        reason = "length" if is_cut else "stop"
        logprob = replace(sampled.logprob, is_end=True) if sampled.logprob else None
        return Output(sequence.choice, text, 1, logprob, reason, stop_string=sequence.text.stop_string)
    if sequence.ngram_rule:
        sequence.ngram_rule.append(token)
    if budget := sequence.thought_budget:
        budget.append(token)
        if sequence.guide and budget.forced:
            sequence.guide.allow(budget.forced)
    text, stopped = sequence.text.decode(token, may_stop)
    reason = "stop" if stopped else None
    is_loop = sequence.loop_detector is not None and sequence.loop_detector.append(token) and may_stop
    is_whole = sequence.guide is not None and sequence.guide.is_done
    if reason is None and (is_loop or is_whole or num_output_tokens == sequence.max_tokens):
        rest, stopped = sequence.text.flush()
        is_ended = stopped or (is_whole and not is_cut)
        text, reason = text + rest, "stop" if is_ended else "repetition" if is_loop else "length"
    return Output(sequence.choice, text, 1, sampled.logprob, reason, stop_string=sequence.text.stop_string)


def end(sequence: Sequence) -> Output:
    """What a sequence without tokens comes to, once its prompt is computed."""
    if sequence.hidden_mean is None:
        return Output(sequence.choice, "", 0, finish_reason="length")
    sequence.request.embedding = sequence.hidden_mean.read()
    return Output(sequence.choice, "", 0, finish_reason="stop")


def read(output: Output, sequence: Sequence) -> Output:
    """What an output adds to an answer that is more than text."""
    parser = sequence.parser
    assert parser is not None
    text, reasoning, calls = parser.decode(output.text)
    if parser.is_reasoning:
        sequence.request.num_reasoning_tokens += output.num_tokens
    finish_reason = output.finish_reason
    if finish_reason:
        last = parser.flush()
        text, reasoning, calls = text + last.text, reasoning + last.reasoning, calls + last.calls
        if finish_reason == "stop" and parser.has_calls:
            finish_reason = "tool_calls"
    return output._replace(text=text, reasoning=reasoning, calls=calls, finish_reason=finish_reason)
