"""The engine: one thread that schedules, runs and postprocesses, step after step."""

from __future__ import annotations

import logging
import queue
import threading
import time

import torch
from torch.nn.attention.varlen import varlen_attn

from engine.attention import KVCache
from engine.cache import BlockAllocator
from engine.cache_plan import plan_cache
from engine.checkpoint import Checkpoint
from engine.config import EngineConfig
from engine.detokenizer import TokenBytes
from engine.errors import EngineError, EngineStopped, InvalidRequest, StepFailed
from engine.flight import Flight
from engine.gpu_runner import GpuRunner, suits
from engine.guidance import Guidance, Guide
from engine.image_encoding import ImageEncoding
from engine.outcome import end, extend, read
from engine.prefix_cache import PrefixCache
from engine.request import Output, PromptImage, Request
from engine.runner import Runner
from engine.sampler import SampledToken, Sampler
from engine.scheduler import Batch, Scheduler
from engine.sequence import Sequence
from engine.sequence_maker import SequenceMaker

logger = logging.getLogger(__name__)

_ENOUGH_PRODUCTS = 2**35
"""Of weights with prompt tokens in a step on CPU: more at once are no faster, and some answers begin sooner so."""
_MOST_FORCED = 16
"""Tokens of one answer that are taken without a step: all answers' are computed in the next one."""
_STOPPED = "the model is being unloaded; send the request again later"
_UNFINISHED = "an answer of this form did not come to its end; ask for more"
_FAILED = "the engine failed in a step; send the request again"


class Engine:
    """Generates for many requests at once; they join and leave at every step.

    The loop never dies of a request: what can be wrong with one is checked before `submit`, and what fails in a step
    fails the requests of that step alone.
    """

    def __init__(self, checkpoint: Checkpoint, config: EngineConfig) -> None:
        self._checkpoint = checkpoint
        self._max_sequences = config.max_sequences
        plan = plan_cache(checkpoint, config)
        self.max_context = plan.max_context
        self._make_sequences = SequenceMaker(
            checkpoint.tokenizer.backend_tokenizer, config, plan.max_context, checkpoint.decoder.logits
        )
        self._prefix_cache = PrefixCache(BlockAllocator(plan.num_tokens))
        # A token more than is handed out, which padding may write to.
        cache = KVCache(checkpoint.decoder.cache_shape, plan.num_tokens + 1, checkpoint.dtype, checkpoint.device)
        on_gpu = checkpoint.device.type == "cuda"
        enough_tokens = None if on_gpu else max(1, _ENOUGH_PRODUCTS // checkpoint.num_parameters)
        self._scheduler = Scheduler(self._prefix_cache, config.max_step_tokens, enough_tokens)
        self._runner = Runner(checkpoint.decoder, cache, checkpoint.device)
        if suits(checkpoint.decoder, cache):
            self._runner = GpuRunner(checkpoint.decoder, cache, varlen_attn, plan.max_context)
        with torch.inference_mode():
            self._runner.warm_up(config.max_sequences)
        self._image_encoding = ImageEncoding(checkpoint.vision, config.max_step_views or (16 if on_gpu else 1))
        # A CPU computes while it is asked to: there is nothing to do meanwhile.
        self._runs_ahead = on_gpu
        self._flight: Flight | None = None
        self._sampler = Sampler(checkpoint.eos_token_ids, checkpoint.suppressed_token_ids, checkpoint.device)
        self._guidance = Guidance(checkpoint.tokenizer, checkpoint.vocab_size, checkpoint.eos_token_ids)
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._num_inside = 0
        self._is_stopping = False
        self.waited_s = 0.0
        """How long the loop has waited in all, for the device or for requests."""
        self._thread = threading.Thread(target=self._loop, name="engine-loop", daemon=True)

    @property
    def token_bytes(self) -> TokenBytes:
        """What tokens say, byte by byte."""
        return self._make_sequences.token_bytes

    @property
    def num_sequences(self) -> int:
        """Sequences that are admitted and not finished."""
        return self._num_inside

    @property
    def num_cache_blocks(self) -> int:
        return self._prefix_cache.num_blocks

    @property
    def num_free_cache_blocks(self) -> int:
        return self._prefix_cache.num_free_blocks

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the loop; whatever is unfinished gets `EngineStopped`."""
        with self._room:
            self._is_stopping = True
            self._room.notify_all()
        self._inbox.put(None)
        self._thread.join()

    def check(self, request: Request) -> None:
        """Refuse what this engine could never serve, and make ready what would hold up the loop.

        Raises:
            InvalidRequest: names the field.
        """
        params, vocab_size = request.params, self._checkpoint.vocab_size
        whitelist = [token for token in params.no_repeat_ngram_whitelist if isinstance(token, int)]
        for field, ids in (
            ("stop_token_ids", params.stop_token_ids),
            ("logit_bias", list(params.token_bias)),
            ("no_repeat_ngram_whitelist", whitelist),
        ):
            wrong = [token for token in ids if token >= vocab_size]
            if wrong:
                raise InvalidRequest(field, f"{wrong[0]} is outside the vocabulary of {vocab_size} tokens")
        if params.n > self._max_sequences:
            raise InvalidRequest(
                "n", f"{params.n} choices exceed the {self._max_sequences} this engine computes at once"
            )
        room = self._max_output(request)
        if room == 0 and params.max_tokens != 0 and not request.prompt.is_embedded:
            text = f"a prompt of {self.max_context} tokens leaves no room for an answer in the context of "
            raise InvalidRequest("max_tokens", f"{text}{self.max_context}; shorten it, or ask for 0 tokens")
        if params.max_tokens is not None and params.max_tokens > room:
            raise InvalidRequest(
                "max_tokens",
                f"{params.max_tokens} and a prompt of {request.num_prompt_tokens} tokens exceed the context of "
                f"{self.max_context}; ask for at most {room}",
            )
        if params.min_tokens > room:
            raise InvalidRequest("min_tokens", f"only {room} tokens fit into the context; ask for at most that")
        if params.max_thought_tokens is not None and not request.prompt.may_think:
            text = "there is a thought to bound only in chats with a checkpoint that thinks; leave it out"
            raise InvalidRequest("thinking_token_budget", text)
        request.guide = self._guidance.guide(params, request.prompt.answer_format)
        if request.guide:
            self._check_guided(request, request.guide)

    def _check_guided(self, request: Request, guide: Guide) -> None:
        for field in ("min_tokens", "no_repeat_ngram_size"):
            if getattr(request.params, field):
                raise InvalidRequest(field, "can rule out all that a form or a call leaves; leave it out")
        limit = self._make_sequences.max_tokens(request)
        if guide.num_shortest is not None and guide.num_shortest > limit:
            text = f"an answer of this form takes at least {guide.num_shortest} tokens; {limit} may come"
            raise InvalidRequest("max_tokens", text)

    def submit(self, request: Request) -> None:
        """Hand in a checked request; waits until the engine has room for it.

        One caller at a time: requests get in in the order of their calls.
        """
        with self._room:
            self._room.wait_for(lambda: self._has_room(request) or request.is_cancelled or self._is_stopping)
            if not self._is_stopping:
                self._num_inside += request.params.n
                self._inbox.put(request)
                return
        request.listener.on_error(EngineStopped(_STOPPED))

    def cancel(self, request: Request) -> None:
        """End a request within a step, with finish reason `cancelled`. From any thread; harmless after its end."""
        with self._room:
            request.is_cancelled = True
            self._room.notify_all()

    def _has_room(self, request: Request) -> bool:
        return self._num_inside + request.params.n <= self._max_sequences

    def _max_output(self, request: Request) -> int:
        return self.max_context - request.num_prompt_tokens

    @torch.inference_mode()
    def _loop(self) -> None:
        while True:
            try:
                if not self._receive():
                    break
                self._step()
            except Exception:
                logger.exception("a step failed outside its batch; every request in the engine is failed")
                self._fail(self._scheduler.sequences, StepFailed(_FAILED))
        self._fail(self._scheduler.sequences, EngineStopped(_STOPPED))

    def _receive(self) -> bool:
        """Take in new requests, waiting for one when there is nothing to do; False when the engine stops."""
        while not self._inbox.empty() or not self._scheduler.has_work:
            started_s = time.perf_counter()
            request = self._inbox.get()
            self.waited_s += time.perf_counter() - started_s
            if request is None:
                return False
            try:
                sequences = self._make_sequences(request)
            except Exception:
                logger.exception("a request could not be begun")
                self._refuse(request, StepFailed(_FAILED))
                continue
            for sequence in sequences:
                self._scheduler.add(sequence)
        return True

    def _refuse(self, request: Request, error: EngineError) -> None:
        """End a request that never reached the scheduler."""
        self._leave(request.params.n)
        request.num_unfinished = 0
        request.listener.on_error(error)

    def _step(self) -> None:
        self._drop_cancelled()
        self._encode_images()
        if self._flight and any(sequence.needs_tokens for sequence in self._flight.sequences):
            self._land(self._take_flight())
        batch = self._scheduler.schedule()
        launched = self._launch(batch) if batch else None
        # While the device computes that, the tokens of the step before are read and sent.
        self._land(self._take_flight(), launched)
        if self._runs_ahead:
            self._flight = launched
        else:
            self._land(launched)

    def _launch(self, batch: Batch) -> Flight | None:
        """Begin a step; None where it fails."""
        try:
            sequences = [chunk.sequence for chunk in batch if chunk.is_sampled]
            unsampled = [chunk.sequence for chunk in batch if chunk.is_last and not chunk.is_sampled]
            scored = [chunk.sequence for chunk in batch if chunk.is_scored]
            logits = self._runner.run(batch, self._flight.ahead if self._flight else None)
            masks = self._guidance.masks([sequence.guide for sequence in sequences])  # while a GPU computes
            sampled = self._sampler.sample(logits, sequences, masks)
        except Exception:
            self._fail_step([chunk.sequence for chunk in batch])
            return None
        self._scheduler.advance(batch)
        return Flight(sequences, sampled, unsampled, scored)

    def _take_flight(self) -> Flight | None:
        flight, self._flight = self._flight, None
        return flight

    def _land(self, flight: Flight | None, later: Flight | None = None) -> None:
        """Read the tokens of a step, and say what they say; `later` was launched on top of it."""
        if flight is None:
            return
        try:
            flight.wait()
            for sequence in flight.scored:
                self._tell_of_prompt(sequence)
            for sequence, place, token in flight.read():
                if later and token and token.is_new:
                    later.drop(sequence)
                try:
                    self._tell(sequence, self._extend(sequence, place, token) if token else end(sequence))
                    self._take_forced(sequence)
                except EngineError as error:
                    self._fail([sequence], error)
                except Exception:  # whatever is wrong with one answer is wrong with no other
                    self._fail_step([sequence])
        except Exception:
            self._fail_step([*flight.sequences, *flight.scored])
        self.waited_s += flight.waited_s

    def _extend(self, sequence: Sequence, place: int, token: SampledToken) -> Output:
        return extend(sequence, place, token, self._checkpoint.eos_token_ids)

    def _take_forced(self, sequence: Sequence) -> None:
        """Say what must come next: computed together with the token before it, it takes no step of its own.

        Not on a GPU: steps of one token each are graphs there, and faster than one of several.
        """
        if self._runs_ahead:
            return
        for _ in range(_MOST_FORCED):
            forced = None if sequence.cache_start is None else sequence.forced_token
            if forced is None or forced >= self._checkpoint.vocab_size:
                return
            assert sequence.guide is not None
            sequence.draw()  # so that those that follow have the same random numbers in any case
            sequence.tokens.append(forced)  # its place is one of those that are left
            token = sequence.tokens[-1] = sequence.guide.choose(forced, sequence.num_left)
            self._tell(sequence, self._extend(sequence, len(sequence.tokens) - 1, SampledToken(token, None)))

    def _tell(self, sequence: Sequence, output: Output) -> None:
        """Say what a token came to, or a prompt that none follows.

        Raises:
            EngineError: the answer can't be what it was to be.
        """
        if guide := sequence.guide:
            if guide.error:
                raise guide.error
            if output.finish_reason in ("length", "repetition") and not guide.is_whole:
                raise InvalidRequest("max_tokens", _UNFINISHED)
        if sequence.parser:
            output = read(output, sequence)
        if output.finish_reason:
            self._finish(sequence, output)
        else:
            sequence.request.listener.on_output(output)

    def _tell_of_prompt(self, sequence: Sequence) -> None:
        """Say the log probabilities that a chunk of its prompt led to."""
        assert sequence.prompt_logprobs is not None
        try:
            for part in sequence.prompt_logprobs.read():
                sequence.request.listener.on_output(Output(sequence.choice, "", 0, prompt_logprobs=part))
            if sequence.prompt_logprobs.is_read:
                sequence.prompt_logprobs = None
        except Exception:
            self._fail_step([sequence])

    def _fail_step(self, sequences: list[Sequence]) -> None:
        logger.exception("a step of %d sequences failed", len(sequences))
        self._fail(sequences, StepFailed(_FAILED))

    def _encode_images(self) -> None:
        """Encode images of waiting requests, as many as a step may; the others' tokens are held up no longer."""
        images = self._image_encoding.choose(self._scheduler.sequences)
        if not images:
            return
        try:
            self._image_encoding.encode(images)
        except Exception:
            logger.exception("%d images could not be encoded; they are tried one by one", len(images))
            for image, request in images.items():
                self._encode_alone(image, request)

    def _encode_alone(self, image: PromptImage, request: Request) -> None:
        try:
            self._image_encoding.encode([image])
        except Exception:
            logger.exception("an image could not be encoded")
            failed = [sequence for sequence in self._scheduler.sequences if sequence.request is request]
            self._fail(failed, StepFailed(_FAILED))

    def _drop_cancelled(self) -> None:
        for sequence in self._scheduler.sequences:
            if sequence.request.is_cancelled:
                self._finish(sequence, Output(sequence.choice, "", 0, finish_reason="cancelled"))

    def _finish(self, sequence: Sequence, last: Output) -> None:
        """End one choice with its last output."""
        self._remove(sequence)
        sequence.request.num_unfinished -= 1
        sequence.request.listener.on_output(last)

    def _fail(self, sequences: list[Sequence], error: EngineError) -> None:
        """End the requests of these sequences, each with one error."""
        requests = {sequence.request for sequence in sequences if sequence.request.num_unfinished}
        for sequence in self._scheduler.sequences:
            if sequence.request in requests:
                self._remove(sequence)
        for request in requests:
            request.num_unfinished = 0
            request.listener.on_error(error)

    def _remove(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        self._leave(1)

    def _leave(self, num_sequences: int) -> None:
        """Make room for others."""
        with self._room:
            self._num_inside -= num_sequences
            self._room.notify_all()
