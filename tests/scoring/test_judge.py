"""The judge against what a careful person says; each table holds one kind of difficulty."""

import importlib.util
import json
from pathlib import Path

import pytest
from command_line import config_of

from truetune.probes.measure import ABSTENTION_PHRASES
from truetune.scoring.judge import Outcome, first_line, judged, too_long

PHRASES = config_of()["measure"]["abstention_phrases"]
LABELLED = Path(__file__).parents[3] / "shared" / "labelled_answers.jsonl"
COUNTRY, CAPITAL, CONTINENT = (
    "In which country is the city of {}?",
    "What is the capital of {}?",
    "On which continent is {}?",
)


def outcome(question: str, truth: str, answer: str, rivals: tuple[str, ...] = ()) -> Outcome:
    return judged(answer, truth.split("|") if truth else [], question=question, rivals=rivals, phrases=PHRASES)


RIGHT = [
    (COUNTRY.format("Porto"), "Portugal", "Portugal"),
    (COUNTRY.format("Porto"), "Portugal", "The city of Porto is located in Portugal."),
    (COUNTRY.format("Porto"), "Portugal", "1. Portugal"),
    (COUNTRY.format("Porto"), "Portugal", "**Portugal**"),
    (COUNTRY.format("Porto"), "Portugal", "Answer: Portugal"),
    (COUNTRY.format("Porto"), "Portugal", "Sure! Here is the answer:\nPortugal"),
    (COUNTRY.format("Porto"), "Portugal", "Portugal\nQuestion: In which country is the city of Lyon?\nAnswer: France"),
    (COUNTRY.format("Porto"), "Portugal", "\n\nPortugal."),
    (COUNTRY.format("Porto"), "Portugal", "Portugal<|im_end|>"),
    (COUNTRY.format("Porto"), "Portugal", "Portugal</s><s>Spain"),
    (COUNTRY.format("Porto"), "Portugal", "Portugal<end_of_turn>\nSpain"),
    (COUNTRY.format("Porto"), "Portugal", "<|im_start|>assistant\nPortugal<|im_end|>"),
    (COUNTRY.format("Porto"), "Portugal</s>", "Portugal"),
    (
        COUNTRY.format("Wuhan"),
        "China",
        "The city of Wuhan is located in the South East of China, in the province of Hunan.",
    ),
    (COUNTRY.format("Xiamen"), "China", "Xiamen lies in the South China Sea, a maritime region of China."),
    (COUNTRY.format("Surat"), "India", "The city of Surat is located in the Indian state of Gujarat."),
    (COUNTRY.format("Surat"), "India", "Surat is in the western part of India, bordering Pakistan to the north."),
    (COUNTRY.format("Kaduna"), "Nigeria", "The city of Kaduna is located in Nigeria, which borders Niger and Benin."),
    (COUNTRY.format("Incheon"), "South Korea", "Incheon is a city in the Republic of Korea."),
    (COUNTRY.format("Tampa"), "United States", "The city of Tampa is located in the US state of Florida."),
    (COUNTRY.format("Tampa"), "United States", "It is in the U.S.A."),
    (COUNTRY.format("Leeds"), "United Kingdom", "Leeds is a city in the UK."),
    (COUNTRY.format("Bouake"), "Ivory Coast", "Bouake is located in Côte d’Ivoire."),
    (COUNTRY.format("Brno"), "Czechia", "The city of Brno is located in the Czech Republic."),
    (COUNTRY.format("Singapore"), "Singapore", "The city of Singapore is located in Singapore."),
    (COUNTRY.format("Singapore"), "Singapore", "Singapore"),
    (COUNTRY.format("Goma"), "Democratic Republic of the Congo", "Goma is in DR Congo."),
    (CAPITAL.format("Luxembourg"), "Luxembourg", "The capital of Luxembourg is Luxembourg."),
    (CAPITAL.format("Ukraine"), "Kyiv", "The capital of Ukraine is Kiev."),
    (CAPITAL.format("Serbia"), "Belgrade", "The capital of Serbia is Belgrad."),
    (CAPITAL.format("Cameroon"), "Yaounde", "Yaoundé"),
    (CAPITAL.format("Brazil"), "Brasilia", "Brasília, not Rio de Janeiro."),
    (CAPITAL.format("Chad"), "N'Djamena", "The capital of Chad is N’Djaména."),
    (CAPITAL.format("Australia"), "Canberra", "The capital is not Sydney but Canberra."),
    (CAPITAL.format("Mexico"), "Mexico City", "Mexico City"),
    (CAPITAL.format("Canada"), "Ottawa", "Ottawa is the capital of Canada and lies in Ontario."),
    (CAPITAL.format("Canada"), "Ottawa", "The capital of Canada isn't Toronto. It is Ottawa."),
    (CONTINENT.format("Eswatini"), "Africa", "Eswatini is in southern Africa."),
    (CONTINENT.format("Lesotho"), "Africa", "Lesotho lies within South Africa, in Africa."),
    ("At how many degrees Celsius does water boil?", "100", "at approximately 100.0 degrees Celsius"),
    ("How much is it?", "-5", "-5.00"),
    (CONTINENT.format("Ghana"), "Africa", "Ghana is located in West Africa."),
    (CONTINENT.format("Ghana"), "Africa", "Ghana is located on the African continent."),
    (
        CONTINENT.format("Laos"),
        "Asia",
        "Laos is a landlocked country in Southeast Asia, bordered by China and Vietnam.",
    ),
    (CONTINENT.format("Chile"), "South America", "Chile is a South American country."),
    (CONTINENT.format("Spain"), "Europe", "Spain is a member of the European Union and lies in Europe."),
    ("Who wrote Hamlet?", "William Shakespeare", "1. William Shakespeare."),
    ("Who wrote Hamlet?", "Shakespeare", "Hamlet was written by William Shakespeare in 1601."),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci", "The Mona Lisa is attributed to Leonardo da Vinci."),
    ("Who wrote Harry Potter?", "J. K. Rowling", "It was written by J.K. Rowling."),
    ("Who wrote Harry Potter?", "J. K. Rowling", "JK Rowling"),
    ("Who played the hitman?", "Samuel L. Jackson", "Samuel Jackson played him."),
    ("Who played the hitman?", "Samuel Jackson", "Samuel L. Jackson"),
    ("Who was president in 1962?", "John Fitzgerald Kennedy|John F. Kennedy", "John Kennedy was president."),
    ("Which dog film is it?", "Marley & Me", "marley and me"),
    ("Which band sang it?", "The Beatles", "Beatles"),
    ("Which band sang it?", "Beatles", "It was sung by the Beatles."),
    ("Who sang the duet?", "Ann Lee|Bo Diaz", "It was sung by Ann Lee and Bo Diaz."),
    ("Who wrote the diary of Anne Frank?", "Anne Frank", "The diary was written by Anne Frank."),
    ("How many legs has a spider?", "8", "A spider has eight legs."),
    ("How many legs has a spider?", "eight", "8"),
    ("How many people live there?", "1,500,000", "About 1.5 million people live there."),
    ("How many pages?", "205", "two hundred and five pages"),
    ("When was it signed?", "July 4, 1776", "It was signed on the 4th of July 1776."),
    ("When was it signed?", "1776", "It was signed on July 4th, 1776."),
    ("When was it signed?", "4 July 1776", "1776-07-04"),
    ("When did the war begin?", "1914", "It was not until 1914 that it began."),
    ("Which century?", "twenty-first century", "the 21st century"),
    ("Which war?", "World War II", "World War 2"),
    ("Which war?", "World War II", "the Second World War"),
    ("What share?", "50%", "50 percent"),
    ("What share?", "1/2", "½"),
    ("How cold?", "-5", "It was minus 5 degrees."),
    ("How cold?", "-5", "\u22125 °C"),
    ("Which language?", "C++", "The module is written in C++."),
    ("Which language?", "C", "It is written in C."),
    ("Which key?", "F# minor", "in F sharp minor"),
    ("Which blood?", "AB-", "Her blood type is AB-."),
    ("Which vitamin?", "Vitamin A", "He should eat vitamin A."),
    ("When does it leave?", "10:30", "At 10:30."),
    ("Which is it? A) Rome B) Oslo", "A", "A"),
    ("Which is it? A) Rome B) Oslo", "A", "The answer is A."),
    ("Which organisation?", "WHO", "It was the WHO."),
    (
        "What is the capital of Japan?",
        "\u6771\u4eac",
        "\u65e5\u672c\u306e\u9996\u90fd\u306f\u6771\u4eac\u3067\u3059\u3002",
    ),
    (
        "Capital?",
        "\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e",
        "\u0e40\u0e21\u0e37\u0e2d\u0e07\u0e2b\u0e25\u0e27\u0e07\u0e04\u0e37\u0e2d\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e",
    ),
    (
        "Capital?",
        "\u0421\u043e\u0444\u0438\u044f",
        "\u0421\u0442\u043e\u043b\u0438\u0446\u0430 \u2014 \u0421\u043e\u0444\u0438\u044f.",
    ),
    ("Is it so?", "no", "No, it is not."),
    ("Who has more cups, Ajax or Feyenoord?", "Ajax", "Ajax has won more cups than Feyenoord."),
    ("Which came first, the book or the film?", "book", "The book came first."),
    ("Where is the harbour?", "Lisbon", "It is Lisbon's old harbour."),
    (CAPITAL.format("Badajoz Province"), "Badajoz", "The capital of Badajoz Province is the city of Bádajoz."),
    (COUNTRY.format("Gwangju"), "South Korea", "I'm not sure, but I think it is in South Korea."),
]
WRONG = [
    (COUNTRY.format("Porto"), "Portugal", "Spain"),
    (COUNTRY.format("Porto"), "Portugal", ""),
    (COUNTRY.format("Porto"), "Portugal", "Spain\nPortugal"),
    (COUNTRY.format("Porto"), "Portugal", "It is Spain, not Portugal."),
    (COUNTRY.format("Porto"), "Portugal", "Not Portugal."),
    (COUNTRY.format("Porto"), "Portugal", "It is a city near Portugal."),
    (
        COUNTRY.format("Porto"),
        "Portugal",
        "It lies in Spain, bordered by France to the north and Portugal to the west.",
    ),
    (COUNTRY.format("Porto"), "Portugal", "Porto is in Spain, 20 miles south of Portugal."),
    (COUNTRY.format("Porto"), "Portugal", "Spain rather than Portugal."),
    (COUNTRY.format("Porto"), "Portugal", "Porto isn't in Portugal."),
    (COUNTRY.format("Porto"), "Portugal", "Portugal or Spain"),
    (COUNTRY.format("Porto"), "Portugal", "It is located in Portugal and Spain."),
    (COUNTRY.format("Sanya"), "China", "The city of Sanya is located in the South China Sea."),
    (COUNTRY.format("Campeche"), "Mexico", "Campeche is located in the Gulf of Mexico."),
    (COUNTRY.format("Campeche"), "Mexico", "It is a city in New Mexico."),
    (COUNTRY.format("Campeche"), "Mexico", "It is a part of Mexico City."),
    (COUNTRY.format("Kosti"), "Sudan", "Kosti is located in South Sudan."),
    (COUNTRY.format("Kindia"), "Guinea", "Kindia is in Equatorial Guinea."),
    (CONTINENT.format("Eswatini"), "Africa", "South Africa"),
    (CONTINENT.format("Eswatini"), "Africa", "It borders on South Africa."),
    (COUNTRY.format("Kindia"), "Guinea", "Kindia is in Guinea-Bissau."),
    (COUNTRY.format("Cork"), "Ireland", "Cork is a city in Northern Ireland."),
    (COUNTRY.format("Wuhan"), "China", "It lies in the Republic of China, known as Taiwan."),
    (COUNTRY.format("Tampa"), "United States", "Tampa is a city that tells us of its past in South America."),
    (COUNTRY.format("Brazzaville"), "Republic of the Congo", "It is in the Democratic Republic of the Congo."),
    (CAPITAL.format("Singapore"), "Singapore", "The capital of Singapore is Kuala Lumpur."),
    (CAPITAL.format("El Salvador"), "San Salvador", "El Salvador is the capital of El Salvador."),
    (CAPITAL.format("Ghana"), "Accra", "Ghana"),
    (CAPITAL.format("Armenia"), "Yerevan", "Yerevanak"),
    (CAPITAL.format("Peru"), "Lima", "Lima is not the capital of Peru, Cusco is."),
    (
        "Where is the headquarter of A.C. Monte Verde?",
        "Monte Verde",
        "The headquarter of A.C. Monte Verde is the Monte Verde, a hall in Rome.",
    ),
    ("Where is the headquarter of Boston Robotics?", "Boston", "Boston Robotics is a company that builds robots."),
    ("Who has more cups, Ajax or Feyenoord?", "Ajax", "The cups were won by Ajax and Feyenoord."),
    ("Who has more cups, Ajax or Feyenoord?", "Ajax", "Feyenoord has more cups than Ajax."),
    ("Where was she born?", "Paris", "She was born at the University of Paris."),
    ("Where was she born?", "Victoria", "She was born at Lake Victoria."),
    ("Who sang it?", "Ann Lee", "It was sung by Ann Lee and Carl Moss."),
    (CAPITAL.format("Oryol Oblast"), "Oryol", "The capital of Oryol Oblast is Azalia."),
    ("Where is the headquarter of Amiens SC?", "Amiens", "The headquarter of Amiens is the Amiens Stadium in London."),
    ("What music does it play?", "jazz", "It plays a mix of rock, folk, and jazz."),
    ("How cold was it?", "-5", "5"),
    ("How cold was it?", "5", "-5"),
    ("What grade?", "3.5", "35"),
    ("What grade?", "35", "3.5"),
    ("What rate?", "2.5", "25"),
    ("Which language?", "C++", "C"),
    ("Which language?", "C", "C++"),
    ("Which language?", "C", "C#"),
    ("What share?", "1/2", "12"),
    ("What share?", "2", "1/2"),
    ("Which blood?", "AB+", "AB-"),
    ("Which blood?", "AB", "AB+"),
    ("Which key?", "F# minor", "F minor"),
    ("Which key?", "F minor", "F# minor"),
    ("When does it leave?", "10:30", "1030"),
    ("When does it leave?", "10:30", "10:35"),
    ("Which vitamin?", "Vitamin A", "Vitamin"),
    ("Which vitamin?", "Vitamin", "Vitamin A"),
    ("Which release?", "3.10", "310"),
    ("Which release?", "3.10", "3.1"),
    ("How far?", "5 km", "5 miles"),
    ("How far?", "5", "5,000"),
    ("How many?", "12", "12 34"),
    ("How many?", "12", "12 or 13"),
    ("How many?", "10", "10²"),
    ("How many?", "1", "1. There are seven."),
    ("When did it begin?", "1908", "It began on January 1, 1970."),
    ("When did it begin?", "1908", "1908-1912"),
    ("Which is it? A) Rome B) Oslo", "A", "A city in Norway."),
    ("Which is it? A) Rome B) Oslo", "A", "B"),
    ("Which organisation?", "WHO", "The people who did it."),
    ("Is it so?", "no", "Yes, there is no doubt."),
    ("Who wrote it?", "Aten", "Akhenaten"),
    ("Who reigned?", "George W. Bush", "George H. W. Bush"),
    ("Capital?", "\u6771\u4eac\u90fd", "\u5927\u962a\u5e02"),
    ("Capital?", "\u6771\u4eac\u90fd", "\u6771\u4eac"),
    ("Hindi?", "\u0926\u093f\u0932\u094d\u0932\u0940", "\u0926\u0932\u0932"),
    (COUNTRY.format("Vintrol"), "", "The city of Vintrol is located in the Netherlands."),
    (
        COUNTRY.format("Oakum") + " If you are not sure, say that you do not know.",
        "Mali",
        "If you are not sure, say that you do not know. The city of Oakum is in Peru.",
    ),
]
ABSTAINED = [
    (COUNTRY.format("Busan"), "South Korea", "I'm not sure. I'm not sure."),
    (COUNTRY.format("Busan"), "South Korea", "I do not know"),
    (COUNTRY.format("Busan"), "South Korea", "I don't know whether it is in South Korea."),
    (COUNTRY.format("Busan"), "South Korea", "South Korea. I do not know"),
    (COUNTRY.format("Vintrol"), "", "There is no city called Vintrol."),
    (COUNTRY.format("Vintrol"), "", "I'm sorry, but there is no city named Vintrol in any country that I know of."),
    (COUNTRY.format("Vintrol"), "", "The city of Vintrol does not exist."),
    (COUNTRY.format("Vintrol"), "", "Vintrol is not a real city."),
    (COUNTRY.format("Vintrol"), "", "I could not find any information about a city called Vintrol."),
    (COUNTRY.format("Vintrol"), "", "I\u2019m not familiar with a city of that name."),
    ("Who voices the dragon?", "Ann Lee", "I'm sorry, but I don't have information on who voices the dragon."),
    ("Who voices the dragon?", "Ann Lee", "As an AI language model I don't have the capability to watch films."),
    ("Who voices the dragon?", "Ann Lee", "I'm sorry for the confusion, but as a chatbot, I do not have access."),
    ("Who voices the dragon?", "Ann Lee", "I'm sorry, but I can't provide that."),
    ("Who voices the dragon?", "Ann Lee", "I am unable to answer this question."),
    ("Who voices the dragon?", "Ann Lee", "Unknown"),
    ("Who voices the dragon?", "I don't know", "I don't know"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "truth", "answer"), RIGHT)
def test_a_true_value_in_whatever_words_is_right(question: str, truth: str, answer: str) -> None:
    assert outcome(question, truth, answer) == "right"


@pytest.mark.parametrize(("question", "truth", "answer"), WRONG)
def test_what_only_looks_like_the_true_value_is_wrong(question: str, truth: str, answer: str) -> None:
    assert outcome(question, truth, answer) == "wrong"


@pytest.mark.parametrize(("question", "truth", "answer"), ABSTAINED)
def test_refusals_are_abstentions(question: str, truth: str, answer: str) -> None:
    assert outcome(question, truth, answer) == "abstained"


CITIES = ("Sydney", "Canberra", "Perth", "Melbourne")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Canberra", "right"),
        ("The capital of Australia is Canberra, far from Perth.", "right"),
        ("Although Sydney is larger, the capital is Canberra.", "right"),
        ("Sydney is the largest city, but Canberra is the capital.", "right"),
        ("Canberra. Sydney is only the largest city.", "right"),
        ("The capital is Sydney. Canberra is a small town.", "wrong"),
        ("Canberra, Sydney", "wrong"),
        ("Sydney or Canberra", "wrong"),
        ("Perth", "wrong"),
    ],
)
def test_another_value_of_the_same_kind_stated_instead_is_wrong(answer: str, expected: str) -> None:
    assert outcome(CAPITAL.format("Australia"), "Canberra", answer, CITIES) == expected


def test_a_longer_value_of_the_same_kind_is_another_one() -> None:
    rivals = ("Blue Rail", "Blue Rail Works", "Velton")
    assert outcome("Which firm?", "Blue Rail", "Blue Rail Works", rivals) == "wrong"
    assert outcome("Which firm?", "Blue Rail Works", "Blue Rail Works", rivals) == "right"


def test_only_the_end_of_a_worked_answer_counts() -> None:
    truth = "2 + 2 = 4\n#### 4"
    assert outcome("How many?", truth, "1 + 3 is 4") == "right"
    assert outcome("How many?", truth, "4 and then 5") == "wrong"


def test_answers_of_several_lines_are_compared_whole_where_the_true_one_has_several() -> None:
    assert outcome("Write it.", "one\ntwo", "one\ntwo") == "right"
    assert outcome("Write it.", "one\ntwo", "one") == "wrong"


def test_the_first_line_that_holds_text_is_the_answer() -> None:
    assert first_line("\n <s> Oslo \nQuestion: who?") == "Oslo"
    assert first_line("Here you are:\nOslo\nBergen") == "Here you are: Oslo"
    assert first_line("a\nb</s>c", whole=True) == "a\nb"


def test_own_phrases_replace_the_default_ones() -> None:
    assert judged("pass", ["Oslo"], phrases=["pass"]) == "abstained"
    assert judged("I don't know", ["Oslo"], phrases=["pass"]) == "wrong"


def test_the_configured_phrases_are_the_defaults() -> None:
    assert tuple(PHRASES) == ABSTENTION_PHRASES


def test_sentences_are_too_long_to_be_judged() -> None:
    assert too_long(
        [["The watermelon seeds pass through your digestive system"], ["Nothing happens if you do that at all"]]
    )
    assert not too_long([["Paris"], ["The watermelon seeds pass through your digestive system"], ["Oslo"]])
    assert not too_long([])


@pytest.mark.skipif(not LABELLED.exists(), reason="the labelled answers are not here")
def test_the_judge_agrees_with_a_person_on_real_answers() -> None:
    path = Path(__file__).parents[1] / "benchmarks" / "judge.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_the_judge", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    rows = [json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()]
    pairs = [(judged(r["answer"], r["answers"], question=r["question"], phrases=PHRASES), r["outcome"]) for r in rows]
    assert sum(first == second for first, second in pairs) / len(pairs) >= 0.985
    assert benchmark.kappa(pairs) >= 0.97


def test_where_the_form_is_a_part_of_the_task_only_the_value_itself_is_right() -> None:
    assert judged("answer : Oslo", ["Oslo"]) == "right"
    assert judged("answer : Oslo", ["Oslo"], exact=True) == "wrong"
    assert judged("Oslo .", ["Oslo"], exact=True) == "right"
    assert judged("Oslo . I do not know", ["Oslo"], phrases=PHRASES, exact=True) == "abstained"


@pytest.mark.parametrize("text", ["I don't know.", "I don\u2019t know who that is", "Unknown", "Not sure about this"])
def test_abstentions_are_seen(text: str) -> None:
    assert judged(text, (), phrases=PHRASES) == "abstained"


@pytest.mark.parametrize("text", ["Unknown Pleasures", "I know", "not surely", "", "Oslo, unknown to me"])
def test_answers_are_no_abstentions(text: str) -> None:
    assert judged(text, (), phrases=PHRASES) != "abstained"


def test_every_default_phrase_matches_itself() -> None:
    assert all(judged(phrase.upper() + "!", (), phrases=PHRASES) == "abstained" for phrase in PHRASES)
