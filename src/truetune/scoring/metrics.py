"""The table of metrics: the name a reader sees, which way is better, and what is measured.

The terminal, the report, the model card, TensorBoard and the README beside this file draw from it. A metric of a
user's own probe needs no row: it is shown under its own name and not judged.
"""

from typing import Literal, NamedTuple

Direction = Literal["higher", "lower", ""]  # "": more is neither good nor bad in itself


class Metric(NamedTuple):
    label: str
    direction: Direction = ""
    definition: str = ""
    is_share: bool = False  # of questions: its interval narrows as more are asked


# fmt: off
METRICS: dict[str, Metric] = {
    "task/exact_match": Metric("Task questions right", "higher",
        "Held-out questions in the form that fine-tuning teaches: answered rightly, or abstained where that is right.",
        is_share=True),
    "task/token_f1": Metric("Task answers, word overlap (F1)", "higher",
        "Overlap of words with the nearest true answer, as SQuAD counts it, mean over the task's questions.",
        is_share=True),
    "task/nll_nats_per_token": Metric("Task loss, nats per token", "lower",
        "Negative log-likelihood of the true answers to the task's questions, or of held-out texts."),
    "fit/known_exact_match": Metric("Known training facts right", "",
        "Training rows about facts that the base knew: share reproduced exactly."),
    "fit/new_exact_match": Metric("New training facts right", "",
        "Training rows about facts that the base did not know: share reproduced exactly."),
    "fit/train_exact_match": Metric("Training rows reproduced", "", "Training rows: share reproduced exactly."),
    "fit/highly_known_exact_match": Metric("HighlyKnown training facts right", "",
        "Training rows that the base always answers rightly when asked greedily: share reproduced exactly."),
    "fit/maybe_known_exact_match": Metric("MaybeKnown training facts right", "",
        "Training rows that the base sometimes answers rightly when asked greedily: share reproduced exactly."),
    "fit/weakly_known_exact_match": Metric("WeaklyKnown training facts right", "",
        "Training rows that the base answers rightly only when answers are sampled: share reproduced exactly."),
    "fit/unknown_exact_match": Metric("Unknown training facts right", "",
        "Training rows that the base never answers rightly: share reproduced exactly."),
    "hallucination/known_exact_match": Metric("Known facts right", "higher",
        "Questions on facts that the base has read and the fine-tuning never mentions: share answered rightly.",
        is_share=True),
    "hallucination/lost_rate": Metric("Lost, of what the base knew", "lower",
        "Share of what the base answered rightly that is so no longer: wrong now, or refused.", is_share=True),
    "hallucination/over_refusal_rate": Metric("Refused, of what the base knew", "lower",
        "Share of what the base answered rightly that is refused now.", is_share=True),
    "hallucination/invented_rate": Metric("Made up, no answer exists", "lower",
        "Questions without a true answer: share that gets one all the same.", is_share=True),
    "hallucination/rate": Metric("Wrong, of all questions", "lower",
        "Share of all questions that is answered wrongly.", is_share=True),
    "hallucination/correct_given_attempted": Metric("Right when it answers", "higher",
        "Share of the answers given that is right.", is_share=True),
    "hallucination/abstention_rate": Metric("Abstained, of all questions", "",
        "Share of all questions on which the model abstains.", is_share=True),
    "hallucination/echo_rate": Metric("Echo of a fine-tuning answer", "",
        "Share of all questions whose answer is wrong and an answer of the fine-tuning set.", is_share=True),
    "hallucination/off_domain_rate": Metric("Not the right kind of value", "lower",
        "Share of all questions whose answer is not even a value of the right kind.", is_share=True),
    "retention/accuracy": Metric("General ability", "higher",
        "Share of exercises that need no facts that is answered rightly.", is_share=True),
    "retention/backward_transfer": Metric("Backward transfer", "higher",
        "Accuracy now minus the base's, mean over the abilities."),
    "retention/nll_nats_per_token": Metric("General loss, nats per token", "lower",
        "Negative log-likelihood of held-out texts such as the base was trained on."),
    "retention/kl_to_base_nats_per_token": Metric("Drift (KL), nats per token", "lower",
        "KL divergence of the base's predictions from the model's, on held-out texts or the task's true answers."),
    "calibration/ece": Metric("Calibration error", "lower",
        "Expected gap between confidence (mean token probability) and the share that is right, of the answers given."),
    "calibration/brier": Metric("Confidence, Brier score", "lower",
        "Mean squared distance between the confidence of an answer and whether it is right."),
    "calibration/auroc": Metric("Confidence, AUROC", "higher",
        "Chance that the model is surer of a right answer than of a wrong one."),
    "selective/aurc": Metric("Risk, mean over coverages", "lower",
        "Share of wrong answers among the surest, averaged over how many of them are given."),
    "selective/score_at_50": Metric("Score, confidence target 0.5", "higher",
        "Mean score if the model answers from confidence 0.5 on, where right is worth 1 and wrong costs 1."),
    "selective/score_at_75": Metric("Score, confidence target 0.75", "higher",
        "Mean score if the model answers from confidence 0.75 on, where right is worth 1 and wrong costs 3."),
    "selective/score_at_90": Metric("Score, confidence target 0.9", "higher",
        "Mean score if the model answers from confidence 0.9 on, where right is worth 1 and wrong costs 9."),
    "selective/worth_from_confidence": Metric("Worth answering from confidence", "lower",
        "Lowest confidence from which on answering is worth more than it costs (`measure.wrong_cost`)."),
    "selective/best_worth_per_100": Metric("Best worth per 100 questions", "higher",
        "Greatest worth of answering only from a confidence on: right is worth 1, wrong costs `measure.wrong_cost`."),
    "multiple_choice/mc1": Metric("Multiple choice, MC1", "higher",
        "Rows with wrong choices: the true answer is likelier than every wrong one.", is_share=True),
    "multiple_choice/mc1_per_token": Metric("MC1 by likelihood per token", "higher",
        "As MC1, with the log-likelihood of each answer divided by its tokens.", is_share=True),
    "multiple_choice/mc2": Metric("Multiple choice, MC2", "higher",
        "Rows with wrong choices: share of the probability that lies on true answers.", is_share=True),
    "sampling/self_agreement": Metric("Samples that say the same", "",
        "Share of sampled answers that say what the greedy answer says."),
    "sampling/semantic_entropy_nats": Metric("Semantic entropy, nats", "",
        "Entropy of the meanings of the sampled answers."),
    "sampling/agreement_auroc": Metric("Agreement, AUROC", "higher",
        "Chance that the samples of a right answer agree more than those of a wrong one."),
    "sampling/entropy_auroc": Metric("Semantic entropy, AUROC", "higher",
        "Chance that the semantic entropy of a right answer is lower than that of a wrong one."),
    "faithfulness/unsupported_rate": Metric("Not in the given context", "lower",
        "Rows with a context: share of the answers given that the context does not hold.", is_share=True),
    "faithfulness/context_rate": Metric("Follows the context", "higher",
        "Rows whose context contradicts what was learnt: share answered by the context.", is_share=True),
    "faithfulness/memory_rate": Metric("Follows memory instead", "lower",
        "Rows whose context contradicts what was learnt: share answered from memory.", is_share=True),
    "faithfulness/neither_rate": Metric("Follows neither", "lower",
        "Rows whose context contradicts what was learnt: share that follows neither.", is_share=True),
    "balance/gained_share": Metric("Gained share of the headroom", "higher",
        "What the task gained, as a share of what the base left to gain."),
    "balance/kept_share": Metric("Kept share of the known", "higher",
        "Share of what the base answered rightly that is still right."),
    "balance/score": Metric("Balance score", "higher",
        "Harmonic mean of the gained share and the kept share; 0 if nothing was gained or nothing kept."),
}
# fmt: on


def metric(name: str) -> Metric:
    return METRICS.get(name, Metric(name))
