"""Wrong objectives, each with one mistake, and the check that must find it. Most have been made by somebody."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ntp.data.example import IGNORE, Example
from ntp.data.special_tokens import END_OF_TEXT, MASK
from ntp.objectives.answers import LEFT_TO_RIGHT
from ntp.objectives.base import LossTerms, Objective, target_nll
from ntp.objectives.block_diffusion import BlockDiffusion
from ntp.objectives.causal import Causal
from ntp.objectives.fim import FillInTheMiddle
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.mlm import MaskedLanguageModel
from ntp.objectives.multi_token import MultiTokenPrediction
from ntp.objectives.permutation import PermutationLM
from ntp.objectives.prefix_lm import PrefixLM
from ntp.objectives.question import Way
from ntp.objectives.span_corruption import SpanCorruption

WRONG: dict[type[Objective], str] = {}
"""Each with the check that rejects it."""


def rejected_by(check: str):
    def note(wrong):
        WRONG[wrong] = check
        return wrong

    return note


class Hiding(Causal):
    """Causal, with every third token hidden by the generator that ``generator`` gives: right if that is right."""

    likelihood = "bound"

    def special_tokens(self):
        return (MASK,)

    def bind(self, context):
        self.mask_id = context.special_ids[MASK]

    def generator(self, row, draw):
        return draw.rng

    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        hidden = (self.generator(row, draw).random(len(made)) < 1 / 3) & (row.bytes[: len(made)] > 0)
        return replace(made, tokens=np.where(hidden, self.mask_id, made.tokens))

    def restore(self, example):
        return None


class OwnLoss(Causal):
    """Causal, with what ``change`` makes of the usual loss."""

    def loss(self, model, batch):
        terms = super().loss(model, batch)
        return replace(terms, sum=self.change(terms.sum, batch))


# -- facts --


@rejected_by("facts_are_legal")
class ExactThoughShown(Causal):
    shows_some_targets = True


@rejected_by("rows_have_a_length")
class LooksAheadTooFar(Causal):
    lookahead = 1000

    def raw_length(self, sequence_length):
        return sequence_length


@rejected_by("costs_are_positive")
class CostsNothing(Causal):
    def forward_flops(self, model, length, targets):
        return 0


@rejected_by("queries_are_well_formed")
class ForgetsTheSuffix(Causal):
    inference = frozenset({"continue", "infill"})


@rejected_by("facts_are_legal")
class ExactInADrawnOrder(PermutationLM):
    ways = PermutationLM.ways | {"any_order": Way("exact", ("length",), drawn=True)}


# -- randomness --


@rejected_by("same_draw_same_example")
class SharedGenerator(Hiding):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def generator(self, row, draw):
        return self.rng


@rejected_by("pickling_changes_nothing")
class KeepsAFunction(Hiding):
    def bind(self, context):
        super().bind(context)
        self.ids = lambda name: context.special_ids[name]


@rejected_by("other_processes_change_nothing")
class HashesStrings(Hiding):
    def generator(self, row, draw):
        return np.random.default_rng(hash(str(draw)) % 2**32)


@rejected_by("draws_differ")
class SameInEveryEpoch(Hiding):
    def generator(self, row, draw):
        return np.random.default_rng([draw.seed, draw.row])


@rejected_by("inputs_stay_as_they_are")
class WritesIntoItsRow(Hiding):
    def corrupt(self, row, draw):
        row.tokens[: len(row) // 2 : 3] = self.mask_id
        return Causal.corrupt(self, row, draw)


@rejected_by("batches_devices_and_workers_change_nothing")
class RemembersTheRowBefore(Hiding):
    before = 0

    def generator(self, row, draw):
        before, self.before = self.before, int(row.tokens[0])
        return np.random.default_rng(before)


@rejected_by("promises_are_kept")
class SecondCutBehindTheFirst(FillInTheMiddle):
    def __init__(self):
        super().__init__(unit="token")

    def _cut(self, body, rng):
        first = int(rng.integers(len(body) + 1))
        second = int(rng.integers(first, len(body) + 1))
        return [[slice(first)], [slice(first, second)], [slice(second, None)]]


# -- shapes --


@rejected_by("arrays_fit")
class AddsATokenTooMany(Causal):
    def bind(self, context):
        self.end = context.tokenizer.end_of_text

    def corrupt(self, row, draw):
        tokens = np.insert(row.tokens, 0, self.end)
        return Example(tokens=tokens[:-1], targets=tokens[1:], target_bytes=row.bytes)


@rejected_by("attention_is_as_declared")
class DeclaresCausalPrefixes(PrefixLM):
    attention = "causal"


@rejected_by("kernels_agree")
class DeclaresFullBlocks(MaskedDiffusion):
    attention = "full"

    def corrupt(self, row, draw):
        return replace(super().corrupt(row, draw), order=np.arange(len(row)) // 8)


@rejected_by("attention_is_the_cheapest")
class PrefixesOfOneToken(PrefixLM):
    def _prefix_lengths(self, lengths, rng):
        return np.ones_like(lengths)


@rejected_by("padding_is_left_to_the_data_module")
class PadsItself(Causal):
    def bind(self, context):
        self.length, self.padding = context.sequence_length, context.tokenizer.padding

    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        more = (0, self.length - len(made))
        return Example(
            tokens=np.pad(made.tokens, more, constant_values=self.padding),
            targets=np.pad(made.targets, more, constant_values=IGNORE),
        )


@rejected_by("tiny_rows_are_rows")
class NeedsThreeTokens(PrefixLM):
    def _prefix_lengths(self, lengths, rng):
        return rng.integers(1, lengths - 1)


# -- text --


@rejected_by("bytes_are_counted_once")
class BytesOfWhatIsRead(Causal):
    def corrupt(self, row, draw):
        return replace(super().corrupt(row, draw), target_bytes=row.bytes[:-1])


@rejected_by("special_tokens_are_left_alone")
class MasksEndsOfText(MaskedLanguageModel):
    def bind(self, context):
        super().bind(context)
        self.is_text_V[context.tokenizer.end_of_text] = True


@rejected_by("special_tokens_are_left_alone")
class RandomTokensOfTheWholeVocabulary(MaskedLanguageModel):
    def bind(self, context):
        super().bind(context)
        self.text_ids = np.arange(context.vocabulary_size)


@rejected_by("the_end_of_a_text_is_learned")
class TellsPaddingByTheEndOfText(Causal):
    def bind(self, context):
        self.end = context.special_ids[END_OF_TEXT]

    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        return replace(made, targets=np.where(made.targets == self.end, IGNORE, made.targets))


@rejected_by("the_text_can_be_restored")
class RestoresWhatItReads(MaskedLanguageModel):
    def bind(self, context):
        super().bind(context)
        self.random_fraction, self.mask_fraction = 1.0, 0.0

    def restore(self, example):
        return example.tokens


# -- flow --


@rejected_by("no_target_is_seen")
class ShiftByZero(Causal):
    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        return replace(made, targets=made.tokens, target_bytes=row.bytes[:-1])


@rejected_by("no_target_is_seen")
class TargetsRolledAroundTheEnd(Causal):
    lookahead = 0

    def corrupt(self, row, draw):
        rolled = np.roll(row.segments, -1) == row.segments
        return Example(
            tokens=row.tokens,
            targets=np.where(rolled, np.roll(row.tokens, -1), IGNORE),
            segments=row.segments,
            target_bytes=np.where(rolled, np.roll(row.bytes, -1), 0),
        )


@rejected_by("no_target_is_seen")
class LossOnThePrefix(PrefixLM):
    def corrupt(self, row, draw):
        return replace(super().corrupt(row, draw), targets=Causal().corrupt(row, draw).targets, target_bytes=None)


@rejected_by("no_target_is_seen")
class MaskOfTheWrongPolarity(PrefixLM):
    attention = "ordered"

    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        return replace(made, order=-made.order)


@rejected_by("no_target_is_seen")
class PublicQueries(PermutationLM):
    """A query that everybody sees is harmless; contents that are as early as their queries are not."""

    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        return replace(made, order=made.order // 2, private=None)


@rejected_by("no_target_is_seen")
class ModuleThatReadsItsTarget(MultiTokenPrediction):
    def loss(self, model, batch):
        ahead = batch.extra["further_targets"][..., 0]
        terms = super().loss(model, batch)
        hidden = self.heads[0](model, model.embed(batch.tokens), model.embed(batch.tokens), ahead.clamp(min=0))
        return replace(terms, sum=terms.sum + model.token_nll(hidden.flatten(0, 1), ahead.flatten()).sum())


@rejected_by("every_token_is_used")
class MaskedOnACausalBackbone(MaskedLanguageModel):
    attention = "causal"


@rejected_by("every_token_is_used")
class CleanCopyIsPrivate(BlockDiffusion):
    def __init__(self):
        super().__init__(block_size=4)

    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        return replace(made, private=~made.private)


@rejected_by("predictions_follow_the_rule")
class CallsTheModelCausally(MaskedLanguageModel):
    def loss(self, model, batch):
        hidden = model(batch.tokens, attention="causal", segments=batch.segments, positions=batch.positions)
        nll = model.token_nll(hidden.flatten(0, 1), batch.targets.flatten())
        return LossTerms(nll.sum(), batch.count, batch.target_bytes)


@rejected_by("documents_stay_apart")
class PredictsAcrossBoundaries(Causal):
    def corrupt(self, row, draw):
        return replace(super().corrupt(row, draw), targets=row.tokens[1:], target_bytes=row.bytes[1:])


@rejected_by("documents_stay_apart")
class LossForgetsTheDocuments(Causal):
    def loss(self, model, batch):
        hidden = model(batch.tokens, attention=batch.attention)
        nll = model.token_nll(hidden.flatten(0, 1), batch.targets.flatten())
        return LossTerms(nll.sum(), batch.count, batch.target_bytes)


@rejected_by("padding_changes_nothing")
class DividesByTheLengthOfARow(OwnLoss):
    def change(self, total, batch):
        return total / batch.tokens.shape[1]


# -- answers --


@rejected_by("answers_repeat_themselves")
class AnswersByAGeneratorOfItsOwn(MaskedDiffusion):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def score(self, question, draw):
        return super().score(question, replace(draw, seed=int(self.rng.integers(2**31))))


@rejected_by("answers_repeat_themselves")
class DrawsItsOnlyAnswer(BlockDiffusion):
    def __init__(self):
        super().__init__(block_size=4)
        self.ways = {"continue": Way("bound", ("left", "length"))}


@rejected_by("answers_fit")
class NoRoomForSigns(FillInTheMiddle):
    def score_length(self, question):
        return len(question.tokens)


@rejected_by("answers_fit")
class AnswersWithoutAnOrder(SpanCorruption):
    def score(self, question, draw):
        return replace(super().score(question, draw), order=None)


@rejected_by("answers_are_complete")
class HiddenTokensCountOnce(MaskedDiffusion):
    def score(self, question, draw):
        return replace(super().score(question, draw), weights=None)


@rejected_by("answers_are_complete")
class FirstTokenIsFree(Causal):
    def score(self, question, draw):
        made = super().score(question, draw)
        return replace(made, targets=np.where(made.targets == question.target[0], IGNORE, made.targets))


@rejected_by("answers_are_complete")
class ChargesForThePrefix(Causal):
    def score(self, question, draw):
        made = super().score(question, draw)
        return replace(made, targets=question.tokens[1 : len(made) + 1])


@rejected_by("no_answer_is_seen")
class AnswersOnThePrefix(PrefixLM):
    def score(self, question, draw):
        made = super().score(question, draw)
        return replace(made, order=np.zeros_like(made.order))


@rejected_by("no_answer_is_seen")
class PseudoLikelihood(MaskedLanguageModel):
    """One token is hidden at a time, and counts for all: the sum of the conditionals of each given all others."""

    def score(self, question, draw):
        size, first = len(question.target), len(question.before)
        index = first + (draw.stratum[0] + int(replace(draw, row=0).rng.integers(size))) % size
        here = np.arange(len(question.tokens)) == index
        return Example(
            tokens=np.where(here, self.mask_id, question.tokens),
            targets=np.where(here, question.tokens, IGNORE),
            weights=np.where(here, float(size), 0.0),
        )


@rejected_by("no_answer_is_seen")
class ContentsOfOneOrder(PermutationLM):
    """Each query sees all other targets, as if they had been known."""

    def score(self, question, draw):
        made = super().score(question, draw)
        size, asked = len(question.tokens), len(question.target)
        queries = 2 + np.arange(asked)
        tokens = made.tokens.copy()
        order = np.concatenate([np.zeros(size, dtype=np.int64), queries])
        return replace(made, tokens=tokens, order=order)


@rejected_by("answers_use_what_is_given")
class SaysThatItSeesOneSide(MaskedDiffusion):
    ways = MaskedDiffusion.ways | {"infill": Way("bound", ("left", "length"), drawn=True)}


@rejected_by("answers_use_what_is_given")
class SaysThatItSeesBothSides(Causal):
    ways = LEFT_TO_RIGHT | {"infill": Way("exact", ("left", "right"))}


@rejected_by("answers_use_what_is_given")
class DoesNotSayThatItKnowsTheLength(PermutationLM):
    ways = PermutationLM.ways | {"cloze": Way("exact", ("left", "right"))}


# -- loss --


@rejected_by("loss_terms_are_sound")
class CountsRows(Causal):
    def loss(self, model, batch):
        return replace(super().loss(model, batch), count=batch.rows)


@rejected_by("loss_terms_are_sound")
class LosesTheGraph(OwnLoss):
    def change(self, total, batch):
        return torch.tensor(total.item())


@rejected_by("loss_repeats_itself")
class DrawsInItsLoss(Causal):
    def loss(self, model, batch):
        nll = target_nll(model, batch).nll
        kept = torch.rand_like(nll) < 0.5
        return LossTerms(2 * (nll * kept).sum(), batch.count, batch.target_bytes)


@rejected_by("splitting_changes_nothing")
class MeanOfMeans(OwnLoss):
    def change(self, total, batch):
        return total / max(1, batch.count)


@rejected_by("no_targets_no_loss")
class NotANumberWithoutTargets(Causal):
    def loss(self, model, batch):
        nll = target_nll(model, batch).nll
        return LossTerms(nll.mean() * batch.count, batch.count, batch.target_bytes)


@rejected_by("no_targets_no_loss")
class MeanOfTheHidden(MaskedDiffusion):
    """Every row of a few tokens hides some of them, but not every row."""

    def loss(self, model, batch):
        nll = target_nll(model, batch)
        return LossTerms(nll.weighted.mean() * batch.target_count, batch.count, batch.target_bytes)


@rejected_by("no_targets_no_loss")
class ReturnsEarly(Causal):
    def loss(self, model, batch):
        if not batch.count:
            return LossTerms(torch.zeros(()), 0, 0)
        return super().loss(model, batch)


@rejected_by("a_uniform_model_loses_ln_v")
class DividesByTheHiddenTokens(MaskedDiffusion):
    def corrupt(self, row, draw):
        return replace(super().corrupt(row, draw), count=None)


@rejected_by("a_uniform_model_loses_ln_v")
class ForgetsTheWeights(MaskedDiffusion):
    def corrupt(self, row, draw):
        return replace(super().corrupt(row, draw), weights=None)


@rejected_by("low_precision_stays_finite")
class LogarithmOfARoundedRate(Causal):
    def bind(self, context):
        self.own = nn.Linear(context.width, 1)

    def loss(self, model, batch):
        terms = super().loss(model, batch)
        kept = self.own(model.embed(batch.tokens)).new_full((), 0.999)  # 1 in bfloat16
        return replace(terms, sum=terms.sum - math.log(1e-3) + torch.log(1 - kept).float())


# -- training --


@rejected_by("binding_repeats_itself")
class StartsAnywhere(Causal):
    def bind(self, context):
        self.own = nn.Parameter(torch.from_numpy(np.random.default_rng().normal(size=4)).float())


@rejected_by("weights_survive_a_checkpoint")
class ForgetsAModule(Causal):
    def bind(self, context):
        self.heads = [nn.Linear(context.width, context.width)]

    def loss(self, model, batch):
        terms = super().loss(model, batch)
        return replace(terms, sum=terms.sum + self.heads[0](model.embed(batch.tokens)).square().sum())


@rejected_by("a_batch_can_be_learned_by_heart")
class LearnsTheOpposite(OwnLoss):
    def change(self, total, batch):
        return 1000.0 * batch.count - total


@rejected_by("the_model_can_be_compiled")
class LooksIntoTheModel(OwnLoss):
    """An attribute that a compiled model has and another has not, or the other way round, decides."""

    def loss(self, model, batch):
        terms = super().loss(model, batch)
        return terms if model._compiled_call_impl is None else replace(terms, sum=2 * terms.sum)

    def change(self, total, batch):
        return total
