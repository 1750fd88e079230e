"""How long SmolLM2 is asked: facts in two forms and ranked among 20; answers a second against lm-evaluation-harness.

python tests/benchmarks/asking.py [--questions 400] [--cache logs/cache]     on an otherwise idle machine

Goals: 400 facts within 90 s on two cores with bfloat16; twice the harness's answers a second, on the same prompts.
Needs pip install 'truetune[real]', and for the second part 'truetune[eval]'.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from statistics import median

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from truetune.config.instantiation import make
from truetune.probes.base_knows import in_form
from truetune.probes.probe import Subject
from truetune.probes.ranking import Ranking

CONF = str(Path(__file__).parents[2] / "conf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison with the harness")
    parser.add_argument("--cache", default="logs/cache")
    options = parser.parse_args()
    asking, subject, data = asked(options.cache)
    questions = data.candidates[: options.questions]
    asking.ask(subject, questions[:8], data)  # warms up
    seconds: dict[str, float] = {}
    for name in ("chat", "few_shot", "ranked"):
        start = time.perf_counter()
        if name == "ranked":
            Ranking(asking).rank(subject, questions, data)
        else:
            asking._items(subject, questions, data, name)
        seconds[name] = time.perf_counter() - start
    total, parts = sum(seconds.values()), ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    print(f"{len(questions)} facts in two forms and ranked among 20: {total:.1f} s ({parts})", flush=True)
    if importlib.util.find_spec("lm_eval"):
        against_the_harness(asking, subject, questions[:200], data, options.rounds)


def asked(cache: str):
    words = ["experiment=real_model", "data.known_test=200", f"paths.cache_dir={cache}"]
    folders = ["paths.log_dir=logs", "paths.output_dir=logs"]
    with initialize_config_dir(CONF, version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides=[*words, *folders]), resolve=True)
    asking = make(config["measure"], "measure").asking(make(config["asking"], "asking"))
    lm, data = in_form(make(config["model"], "model").load(print), make(config["data"], "data").load(), asking, print)
    return asking, asking.measured(Subject(lm, resamples=0)), data


def against_the_harness(asking, subject, questions, data, rounds: int) -> None:
    """The same prompts behind five shots, up to the first line end, at most 24 tokens, both in bfloat16."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from truetune.probes.decoding import greedy_answers

    prompts = [asking.prompt(question, "few_shot", data) for question in questions]
    harness = HFLM(pretrained=subject.lm.model.eval(), tokenizer=subject.lm.tokenizer, batch_size=32)
    how = {"until": ["\n"], "do_sample": False, "max_gen_toks": 24}
    requests = [Instance("generate_until", {}, (prompt, how), index) for index, prompt in enumerate(prompts)]
    ratios: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        ours = greedy_answers(subject.lm, prompts, max_new_tokens=24, one_line=True, **asking.size)
        between = time.perf_counter()
        theirs = harness.generate_until(requests, disable_tqdm=True)
        end = time.perf_counter()
        ratios.append((end - between) / (between - start))
        same = sum(answer.text == other.strip() for answer, other in zip(ours, theirs, strict=True))
        print(
            f"{len(prompts)} questions: {between - start:.1f} s, the harness {end - between:.1f} s; "
            f"{same} answers are the same",
            flush=True,
        )
    print(f"answers a second: {median(ratios):.2f} times the harness's ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
