"""What the models are run on: prose, questions and sentences, written for this project."""

from __future__ import annotations

PROSE = (
    "The harbour master kept two ledgers. In the first, bound in green cloth, he wrote the name of "
    "every ship that came in past the lighthouse, the hour of its arrival, the depth of water at "
    "the bar and the number of its crew. The second was smaller, and he showed it to nobody. There "
    "he noted what the sailors told him while they waited for the tide: that the price of copper "
    "had fallen in the north, that a bridge had been swept away in the spring floods, that a "
    "doctor in the islands treated fevers with nothing but salt and lemon juice. Most of it was "
    "gossip, and some of it was false, but after thirty years the small book had become the better "
    "of the two. When the company asked him in 1912 why so few ships had arrived that autumn, the "
    "green ledger could only say that they had not. The other one knew the reason. A captain with "
    "a bandaged hand had mentioned, between two cups of coffee, that insurance on the southern "
    "route was now 14 percent of the cargo, and that no owner in his right mind would pay it. So "
    "the harbour master wrote a short letter, gave the figure, did not say where he had it from, "
    "and went down to the quay to watch the empty water turn grey. Numbers tell you what has "
    "happened, he used to say to his daughter; it takes a person to tell you why."
)

QUESTIONS = (
    "What is 17 + 25?",
    "Name the largest ocean on Earth.",
    "Write one sentence about why bread rises.",
)

SENTENCES = (
    "The ferry leaves at noon.",
    "A boat departs in the middle of the day.",
    "Her grandmother taught her to mend nets before she could read, and she has never forgotten "
    "how to tie the knots, not even in the dark with cold fingers and a wind that takes your hat.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "Rain.",
    "Compile the program with optimisations and measure it again on an idle machine.",
    "The committee could not agree on a date, so it agreed to meet again.",
    "Why does ice float?",
    "In 1969 two people walked on the Moon while a third circled above them, alone, 110 kilometres "
    "from the nearest human being and out of reach of any radio for half of every orbit.",
    "Sourdough needs flour, water, salt, and more patience than most recipes admit.",
    "The violinist broke a string, borrowed a stranger's instrument, and finished the concerto.",
    "Tensor cores multiply small matrices; the difficulty lies in who holds which element.",
)
