"""A text in any script comes back as it went in, wherever it is put."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import CANARY
from tests.support.stack.stack import Client, StoreView, refused

LIMIT = 2000
SAMPLES = {
    "latin": "Zoë façade naïve Łódź Ærø straße ﬁ Ǆ ŉ İı ",
    "greek": "Η γλώσσα ὁ ἄνθρωπος ς σ ",
    "cyrillic": "Съешь ещё этих мягких французских булок ",
    "arabic": "اللغة العربية مُشَكَّلَة ١٢٣ ",
    "hebrew": "שָׁלוֹם עולם ",
    "devanagari": "क्षत्रिय हिन्दी में लिखा ",
    "tamil": "தமிழ் மொழி ",
    "thai": "ภาษาไทยไม่มีช่องว่าง ",
    "chinese": "記憶體是給代理人用的，簡體字也行。",
    "japanese": "記憶はエージェントのためのもの、ﾊﾝｶｸも。",
    "korean": "기억은 에이전트를 위한 것이다 ",
    "emoji": "👩🏽‍🚀👨‍👩‍👧‍👦🏳️‍🌈🇩🇪☝🏿 ",
    "combining": "e\u0301a\u0328\u0300Z̵̘̓ȃ̸̧l̷͎̐g̶͍̈o̵̹ ",
    "bidi": "\u202eabc\u202c\u2066x\u2069\u200f\u200e ",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x80\x85\x9f\u2028\u2029 ",
    "invisible": "\ufeff\u200b\u200c\u200d\u2060\u00ad\u034f\ufff9\u180e ",
    "unassigned": "\ufffe\uffff\U0001fffe\U0010ffff\ue000\U000f0000 ",
    "math": "𝔐𝕖𝓶𝑜𝗋𝚢 ∑∞≠√ ",
    "cuneiform": "𒀀𒁀𒂀 𓀀𓁀 𐎀𐎁 ",
    "cypher": "'}) DETACH DELETE m // \" `x` $param {a: 1} UNWIND \\' ",
    "escapes": r"\u0041 \\u0041 \\\u0000 \n \x00 %00 %s {0} ${x} \ ",
    "json": '{"a": "\\"", "b": [null]} ]}" ',
    "redis": "\r\n$5\r\nhello\r\n*1\r\n ",
    "markup": "<script>alert(1)</script> &amp; ]]> <!-- ",
}


def filled(sample: str) -> str:
    """Exactly as long as is allowed; begins and ends with something that is kept."""
    inner = (sample * LIMIT)[: LIMIT - 2]
    return f"«{inner}»"


@pytest.mark.parametrize("script", SAMPLES)
async def test_a_long_text_in_any_script_comes_back_equal(
    api: Client, stores: StoreView, script: str
) -> None:
    text = filled(SAMPLES[script])
    assert len(text) == LIMIT
    memory_id = await api.stored(text, tags=["whole"], type="Insight")
    assert (await api.memory(memory_id))["content"] == text
    found = await api.recall(tags="whole")
    assert found.body["results"][0]["memory"]["content"] == text
    await stores.all_done(1)
    assert (await api.memory(memory_id))["content"] == text


@pytest.mark.parametrize("script", SAMPLES)
async def test_tags_metadata_and_labels_come_back_equal(api: Client, script: str) -> None:
    text = "«" + SAMPLES[script].strip() + "»"
    answer = await api.store(
        f"{CANARY} labelled",
        tags=[text],
        metadata={text: [text, {"k": text}]},
        type=text[:60],
        project=text[:100],
        session_id=text[:100],
    )
    if script in ("controls", "redis") and answer.status == 400:
        assert "control" in refused(answer, 400)
        return
    memory_id = answer.body["memory_id"]
    memory = await api.memory(memory_id)
    assert memory["tags"][0] == text
    assert memory["metadata"][text] == [text, {"k": text}]
    assert memory["type"] == text[:60]
    assert (memory["project"], memory["session_id"]) == (text[:100], text[:100])
    assert memory_id in await api.recalled(tags=text, tag_match="exact")


@pytest.mark.parametrize("wrong", ["a\0b", "\0"])
async def test_what_cannot_be_kept_is_refused_with_the_reason(api: Client, wrong: str) -> None:
    assert "NUL" in refused(await api.store(f"x{wrong}"), 400)
    assert "control" in refused(await api.store("x", tags=[f"t{wrong}"]), 400)


async def test_a_nul_in_metadata_comes_back_or_is_refused(api: Client) -> None:
    answer = await api.store(f"{CANARY} nul", metadata={"a\0": "b\0"})
    if answer.status == 201:
        memory = await api.memory(answer.body["memory_id"])
        assert memory["metadata"]["a\0"] == "b\0"
    else:
        assert "NUL" in refused(answer, 400)


@settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=400)
)
async def test_any_text_comes_back_equal(api: Client, text: str) -> None:
    answer = await api.store(f"«{text}»", metadata={"text": text})
    memory = await api.memory(answer.body["memory_id"])
    assert memory["content"] == f"«{text}»"
    assert memory["metadata"]["text"] == text
