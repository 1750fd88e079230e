"""Small logs as lm-evaluation-harness and inspect_ai write them."""

import hashlib
import json
import zipfile
import zlib

import pyarrow as pa


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def choice_row(number, right, *, question=None, its_filter="none", **more):
    """A multiple choice of two, as lm_eval logs it: the second choice is true."""
    question = question or f"Is {number} a number?"
    likelihoods = [["-2.0", "False"], ["-1.0" if right else "-3.0", "False"]]
    arguments = {f"gen_args_{at}": {"arg_0": question, "arg_1": word} for at, word in enumerate((" no", " yes"))}
    row = {"doc_id": number, "doc": {"question": question}, "target": "1", "arguments": arguments}
    row |= {"resps": [[one] for one in likelihoods], "filtered_resps": likelihoods, "filter": its_filter}
    row |= {"metrics": ["acc"], "acc": float(right), "doc_hash": sha(question), "prompt_hash": sha(question)}
    return {**row, **more}


def answer_row(number, said, *, its_filter="none", right=None, **more):
    """A generated answer; the truth is the number."""
    prompt = f"Say {number}."
    arguments = {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n"], "max_gen_toks": 8}}}
    right = said == str(number) if right is None else right
    row = {"doc_id": number, "doc": {"n": number}, "target": str(number), "arguments": arguments}
    row |= {"resps": [[f"It is {said}"]], "filtered_resps": [said], "filter": its_filter, "metrics": ["exact_match"]}
    return {**row, "exact_match": float(right), "doc_hash": sha(prompt), "prompt_hash": sha(prompt), **more}


def lm_eval_log(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def inspect_sample(number, value, *, epoch=1, said="Paris", **more):
    question = f"Capital of {number}?"
    row = {"id": number, "epoch": epoch, "input": question, "target": "Paris"}
    row["messages"] = [
        {"id": f"{epoch}{said}", "role": "user", "content": question},
        {"id": "2", "role": "assistant", "content": [{"type": "text", "text": f"It is {said}."}]},
    ]
    row["output"] = {"choices": [{"message": row["messages"][1]}]}
    return {**row, "scores": {"match": {"value": value, "answer": said}}, **more}


def inspect_log(path, samples, *, zstandard=False, status="success", **about):
    """A .json file, or a .eval with a file for each sample, which newer releases compress by Zstandard."""
    head = {"version": 2, "status": status, "eval": {"task": "capitals", "model": path.stem, **about}}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps({**head, "samples": samples}), encoding="utf-8")
        return path
    parts = {"header.json": head}
    parts |= {f"samples/{sample['id']}_epoch_{sample['epoch']}.json": sample for sample in samples}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if zstandard else zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            content = json.dumps(part).encode()
            archive.writestr(name, zstd(content) if zstandard else content)
            if zstandard:  # zipfile cannot write it before Python 3.14, so what the directory says is put right
                member = archive.getinfo(name)
                member.compress_type, member.CRC, member.file_size = 93, zlib.crc32(content), len(content)
    return path


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()
