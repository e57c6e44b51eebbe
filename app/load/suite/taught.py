"""What the judge of short stretches is taught with: none of the suite's held-out voices, and none of its sentences.

Backchannels, cut-ins, days and numbers are few in any language: those that the lexicon lists are taught, also where a
held-out moment says one of them.
"""

from typing import Final

from flows import grammar, lexicon

VOICES: Final = (
    "en-us", "en", "en-029", "en-us-nyc", "en-gb-x-gbcwmd",
    *(f"en-us+{name}" for name in ("m1", "f1", "m3", "f3", "m5", "f5", "m7") * 2),
    *(
        f"{accent}+{name}"
        for accent in ("en", "en-029", "en-us-nyc", "en-gb-x-gbcwmd")
        for name in ("m1", "m3", "m5", "m7", "f1", "f3", "f5", "Andy", "linda", "Michael")
    ),
    *(
        f"en-us+{name}"
        for name in (
            "adam", "Andy", "announcer", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david", "ed",
            "edward", "edward2", "grandma", "grandpa", "gustave", "ian", "iven", "iven2", "iven3", "john", "linda",
            "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul", "pedro", "quincy", "rob",
            "robert", "sandro", "shelby", "steph", "steph2", "steph3", "travis", "victor", "zac", "anika", "Annie",
            "Alicia", "Andrea", "Denis", "Diogo", "Gene", "Gene2", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael",
            "Mike", "klatt", "klatt2", "klatt3",
        )
    ),
)  # fmt: skip

BACKCHANNELS: Final = tuple(
    sorted(
        {*lexicon.BACKCHANNELS, *grammar.GO_ON}.union(
            ("mm-hmm", "oh right", "okay yeah", "yes yes", "yeah okay", "oh good", "oh yes", "okay great", "sure sure")
        )
        - {"er", "uh", "um", "ja", "ha", "huh", "mhm", "mmhmm", "i know"}  # not said alone, or not as they are written
    )
)  # fmt: skip

SHORT: Final = tuple(
    sorted(
        {
            *lexicon.CUT_INS, *lexicon.WEEKDAYS, *lexicon.UNITS, *grammar.REPEAT,
            "no", "no no", "nope", "stop it", "please stop", "wait wait", "stop stop", "no wait", "what", "again",
            "come again", "say again", "what was that", "cancel", "help", "agent", "operator", "a person", "listen",
            "hey", "hi", "actually", "question", "quiet", "never", "today", "tomorrow", "address", "prices", "where",
            "when", "who", "why", "how much", "how", "back", "next", "skip", "later", "not that", "next week",
            "my name", "look", "please", "the doctor", "i can't", "speak up", "louder", "slower", "too fast",
            "hold it", "just stop", "can i", "let me", "may i", "thursday please", "on friday", "morning",
            "afternoon", "in the morning", "monday morning",
        }
        - {"but"}
    )
)  # fmt: skip

BEGINNINGS: Final = (
    "i need to talk about my bill", "you have the wrong number for me", "my daughter is sick and needs a doctor",
    "what does that mean exactly", "do i have to bring anything", "is that the new building", "where can i park my car",
    "how long will it take", "i am calling because of my knee", "i have a problem with my medicine",
    "can you tell me the price", "could you give me another day", "please tell me when the doctor is in",
    "that will not work for me", "i cannot come in the morning", "i do not want to hear all that",
    "we were there last week", "let me ask you something", "may i ask a question", "no i said next week",
    "no that is the wrong day", "no thank you i only want to cancel", "yes and i want to change my address",
    "yes but not on that day", "okay so when can i come", "okay then give me the next one",
    "okay i understand but i need it today", "right so what do i do now", "right but i am not a new patient",
    "sure but i need to know the time", "well i wanted to ask about the results", "but i have already told you that",
    "but that is too late for me", "wait i did not get that", "wait a second i have to find a pen",
    "stop i already know this", "hello is anybody there", "hello i want to speak with a human",
    "excuse me could you speak up please", "sorry i did not understand the last part",
    "sorry could you go back a little", "actually i need two appointments", "actually it is for my husband",
    "tell me about the weekend", "tell me the number again please", "say the last thing again",
    "give me wednesday at noon", "monday would be good for us", "thursday afternoon if you have anything",
    "saturday or sunday only please", "in the afternoon would be better", "tomorrow morning is what i want",
    "the day after tomorrow please", "my name is martin and i have an appointment", "this is not what i called for",
    "that is enough thank you", "just tell me if there is a free place", "just put me through to somebody",
    "hang up and call me later", "hold on somebody is at the door", "one second please i need to write that down",
    "listen i have very little time", "oh no that is bad", "oh but i thought you were closed",
    "oh can i ask one thing", "i see but i want to know more", "i see and how do i get there",
    "good and what about friday", "great so can we go on", "yeah no i do not think so", "yeah i want to move it",
    "yeah and my wife as well", "uh can i say something", "um i have another question", "are you a machine",
    "did you say tuesday", "does it cost anything", "who am i speaking to", "why do you need that",
    "when does it open", "which floor is it on", "there is a mistake in my name", "they told me to call again",
    "he is not my doctor", "she has an appointment already", "it is very urgent", "if i come late what happens",
    "five o clock would be fine", "next month please", "too fast please slow down", "start again from the beginning",
    "skip all of this please", "never mind i call again",
)  # fmt: skip
