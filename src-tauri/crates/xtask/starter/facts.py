"""The kinds of facts that short texts in the starter model's world are made of.

Each block below is one kind. Its first line names the kind and its slots; `S` lines are ways to state the fact; each `Q` line
holds ways to ask for one part of it, then the answer as a full sentence, then the bare words of the answer as they stand in the
text. The answer to a question is always worded the same way, so that an exact comparison with it is fair.
"""

KINDS = """
have n=person c=color t=thing
S [n] has [c.a] [t].
S [n] owns [c.a] [t].
S The [c] [t] belongs to [n].
S There is [c.a] [t] in the bag of [n].
Q What color is the [t]? | What color is [n]'s [t]? | Which color does the [t] have? => The [t] is [c]. => [c]
Q Who has the [t]? | Whose [t] is it? | Who owns the [c] [t]? | To whom does the [t] belong? => [n] has the [t]. => [n]
Q What does [n] have? | What does [n] own? | Which thing belongs to [n]? => [n] has [c.a] [t]. => [t]

lies c=color t=thing p=place
S The [c] [t] is in the [p].
S There is [c.a] [t] in the [p].
S In the [p] you can find [c.a] [t].
S Somebody left [c.a] [t] in the [p].
Q Where is the [t]? | Where is the [c] [t]? | Where can I find the [t]? | In which place is the [t]? => The [t] is in the [p]. => the [p]
Q What is in the [p]? | What can I find in the [p]? => There is [c.a] [t] in the [p]. => [t]
Q What color is the [t]? | Which color is the [t] in the [p]? => The [t] is [c]. => [c]

went n=person p=place d=day
S [n] went to the [p] on [d].
S On [d] [n] walked to the [p].
S On [d], [n] visited the [p].
S [n] was in the [p] on [d].
Q Where did [n] go? | Where was [n] on [d]? | Which place did [n] visit? | Where did [n] go on [d]? => [n] went to the [p]. => the [p]
Q When did [n] go to the [p]? | On which day was [n] in the [p]? | When was [n] in the [p]? => [n] went to the [p] on [d]. => [d]
Q Who went to the [p]? | Who was in the [p]? | Who visited the [p]? => [n] went to the [p]. => [n]

saw n=person s=size a=animal p=place
S [n] saw [s.a] [a] in the [p].
S In the [p] [n] met [s.a] [a].
S [n] noticed [s.a] [a] near the [p].
Q What did [n] see? | Which animal did [n] see? | What animal did [n] meet? => [n] saw [s.a] [a]. => [a]
Q Who saw the [a]? | Who noticed the [a]? | Who met the [a]? => [n] saw the [a]. => [n]
Q Where did [n] see the [a]? | Where was the [a]? => The [a] was at the [p]. => the [p]

gave n=person t=thing m=person
S [n] gave the [t] to [m].
S [n] gave [t.a] to [m].
S [m] got [t.a] from [n].
S [m] received the [t] from [n].
Q Who got the [t]? | To whom did [n] give the [t]? | Who has the [t] now? => [m] got the [t]. => [m]
Q Who gave the [t] away? | Who gave the [t] to [m]? | From whom did [m] get the [t]? => [n] gave the [t] to [m]. => [n]
Q What did [n] give to [m]? | What did [m] get from [n]? => [n] gave the [t] to [m]. => [t]

job n=person j=job w=town
S [n] is [j.a] in [w].
S [n] works as [j.a] in [w].
S In [w], [n] works as [j.a].
Q What does [n] do? | What is [n]'s job? | What does [n] work as? => [n] is [j.a]. => [j]
Q Where does [n] work? | In which town does [n] work? => [n] works in [w]. => [w]
Q Who is the [j]? | Who works as [j.a]? | Who works in [w]? => [n] is the [j]. => [n]

home n=person r=street w=town
S [n] lives in [r] in [w].
S The home of [n] is in [r] in [w].
S [n] has a house in [r] in [w].
Q In which street does [n] live? | What street does [n] live in? | What is the street of [n]? => [n] lives in [r]. => [r]
Q In which town does [n] live? | What town does [n] live in? => [n] lives in [w]. => [w]
Q Who lives in [r]? | Whose house is in [r]? | Who lives in [w]? => [n] lives in [r]. => [n]

pet n=person q=pet x=petname
S [n] has [q.a] called [x].
S [n] has a pet, [q.a] named [x].
S The [q] of [n] is called [x].
S [x] is the [q] of [n].
Q What is the name of [n]'s [q]? | What is [n]'s [q] called? | What is the [q] called? => The [q] of [n] is called [x]. => [x]
Q What kind of animal is [x]? | What animal is [x]? | What pet does [n] have? => [x] is [q.a]. => [q]
Q Who has [q.a]? | Whose pet is [x]? | Who owns [x]? => [n] has the [q]. => [n]

buy n=person k=number t=thing v=price
S [n] bought [k] [t.s] for [v] dollars.
S [n] paid [v] dollars for [k] [t.s].
S For [v] dollars, [n] bought [k] [t.s].
Q How many [t.s] did [n] buy? | How many [t.s] are there? => [n] bought [k] [t.s]. => [k]
Q How much did the [t.s] cost? | How much did [n] pay? | What was the price of the [t.s]? => The [t.s] cost [v] dollars. => [v] dollars
Q Who bought the [t.s]? | Who paid for the [t.s]? => [n] bought the [t.s]. => [n]
Q What did [n] buy? | What did [n] pay for? => [n] bought [k] [t.s]. => [t.s]

eat n=person f=food
S [n] likes [f] very much.
S The favorite food of [n] is [f].
S [n] eats [f] every day.
Q What does [n] like? | What is the favorite food of [n]? | What does [n] eat? | What does [n] like to eat? => [n] likes [f]. => [f]
Q Who likes [f]? | Who eats [f]? => [n] likes [f]. => [n]

hobby n=person i=hobby d=day
S [n] enjoys [i] every [d].
S Every [d] [n] does some [i].
S [n] loves [i] and does it every [d].
Q What is [n]'s hobby? | What does [n] love? | What does [n] do every [d]? | What does [n] enjoy? => [n] enjoys [i]. => [i]
Q Who enjoys [i]? | Who loves [i]? | Who does something every [d]? => [n] enjoys [i]. => [n]
Q On which day does [n] enjoy [i]? | When does [n] do that? => [n] does it every [d]. => [d]

opens p=place u=hour z=hour
S The [p] opens at [u] and closes at [z].
S The [p] is open from [u] to [z].
S You can visit the [p] between [u] and [z].
Q When does the [p] open? | At what time does the [p] open? => The [p] opens at [u]. => [u]
Q When does the [p] close? | At what time does the [p] close? | Until when is the [p] open? => The [p] closes at [z]. => [z]
Q What opens at [u]? | What closes at [z]? => The [p] does. => the [p]

meets n=person m=person p=place u=hour
S [n] meets [m] in the [p] at [u].
S At [u] [n] will meet [m] in the [p].
S [n] and [m] meet in the [p] at [u] o'clock.
Q Where do [n] and [m] meet? | Where does [n] meet [m]? => They meet in the [p]. => the [p]
Q When do [n] and [m] meet? | At what time does [n] meet [m]? => They meet at [u]. => [u]
Q Who meets [n]? | Whom does [n] meet? => [n] meets [m]. => [m]

feels n=person h=feeling t=thing
S [n] is [h] because the [t] is lost.
S [n] feels [h] because of the [t].
S The [t] makes [n] [h].
Q How does [n] feel? | How is [n]? => [n] is [h]. => [h]
Q Why is [n] [h]? | What makes [n] [h]? => [n] is [h] because of the [t]. => the [t]
Q Who is [h]? | Who feels [h]? => [n] is [h]. => [n]

made n=person t=thing l=material
S [n] made [t.a] out of [l].
S [n] built [t.a] from [l].
S The [t] of [n] is made of [l].
Q What is the [t] made of? | What is [n]'s [t] made of? | Of what is the [t] made? => The [t] is made of [l]. => [l]
Q Who made the [t]? | Who built the [t]? => [n] made the [t]. => [n]
Q What did [n] make? | What did [n] build? => [n] made [t.a]. => [t]

next p=place o=place
S The [p] is next to the [o].
S The [p] is just behind the [o].
S You will find the [p] beside the [o].
Q What is next to the [o]? | What is near the [o]? => The [p] is near the [o]. => the [p]
Q Where is the [p]? | How do I find the [p]? => The [p] is near the [o]. => the [o]

trip n=person e=vehicle w=town g=month
S [n] goes to [w] by [e] in [g].
S In [g] [n] will travel to [w] by [e].
S [n] takes the [e] to [w] in [g].
Q Where does [n] go? | Where will [n] travel? | To which town does [n] go? => [n] goes to [w]. => [w]
Q How does [n] travel? | How does [n] go to [w]? | What does [n] take to [w]? => [n] goes by [e]. => [e]
Q When does [n] travel? | In which month does [n] go to [w]? | When does [n] go to [w]? => [n] goes in [g]. => [g]
Q Who goes to [w]? | Who travels by [e]? => [n] goes to [w]. => [n]

weather w=town y=weather d=day
S On [d] it is [y] in [w].
S It is [y] in [w] on [d].
S In [w], the weather is [y] on [d].
Q How is the weather in [w]? | What is the weather like in [w]? => It is [y] in [w]. => [y]
Q When is it [y] in [w]? | On which day is it [y]? => It is [y] on [d]. => [d]
Q Where is it [y]? | In which town is it [y]? => It is [y] in [w]. => [w]

number n=person k=number a=animal p=place
S [n] counted [k] [a.s] in the [p].
S There were [k] [a.s] in the [p] of [n].
S [n] keeps [k] [a.s] in the [p].
Q How many [a.s] are there? | How many [a.s] did [n] count? | How many [a.s] are in the [p]? => There are [k] [a.s]. => [k]
Q Where are the [a.s]? | Where can I see the [a.s]? => The [a.s] are in the [p]. => the [p]
Q Which animals are in the [p]? | What is in the [p]? | Which animals did [n] count? => There are [a.s] in the [p]. => [a.s]

speaks n=person b=language w=town
S [n] comes from [w] and speaks [b].
S [n] from [w] speaks [b].
S [n], who comes from [w], speaks [b].
Q What language does [n] speak? | Which language does [n] speak? => [n] speaks [b]. => [b]
Q Where does [n] come from? | Where is [n] from? => [n] comes from [w]. => [w]
Q Who speaks [b]? | Who comes from [w]? => [n] speaks [b]. => [n]

grows n=person x=flower v=vegetable p=place
S [n] grows [x.s] and [v.s] in the [p].
S In the [p] [n] plants [x.s] and [v.s].
S The [p] of [n] is full of [x.s] and [v.s].
Q Which flowers does [n] grow? | What flowers are in the [p]? => [n] grows [x.s]. => [x.s]
Q Which vegetables does [n] grow? | What vegetables are in the [p]? => [n] grows [v.s]. => [v.s]
Q Where does [n] grow flowers? | Where are the [x.s]? => The [x.s] are in the [p]. => the [p]

plays n=person i=instrument p=place
S [n] plays the [i] in the [p].
S In the [p] [n] plays the [i].
S You can hear [n] play the [i] in the [p].
Q What does [n] play? | Which instrument does [n] play? => [n] plays the [i]. => the [i]
Q Where does [n] play? | Where can I hear [n]? => [n] plays in the [p]. => the [p]
Q Who plays the [i]? | Who plays in the [p]? => [n] plays the [i]. => [n]

lost n=person c=color t=thing p=place
S [n] lost [c.a] [t] in the [p].
S In the [p] [n] lost [c.a] [t].
S [n] forgot [c.a] [t] in the [p].
Q What did [n] lose? | What did [n] forget? => [n] lost [c.a] [t]. => [t]
Q Where did [n] lose the [t]? | Where was the [t] lost? | Where did [n] forget the [t]? => [n] lost the [t] in the [p]. => the [p]
Q Who lost the [t]? | Who forgot the [c] [t]? => [n] lost the [t]. => [n]
Q What color is the [t]? | Which color does the lost [t] have? => The [t] is [c]. => [c]

found n=person t=thing p=place d=day
S [n] found [t.a] in the [p] on [d].
S On [d] [n] found the [t] in the [p].
S The [t] was found by [n] in the [p] on [d].
Q What did [n] find? | What was found on [d]? => [n] found the [t]. => [t]
Q Where did [n] find the [t]? | Where was the [t]? => [n] found the [t] in the [p]. => the [p]
Q Who found the [t]? | Who found something in the [p]? => [n] found the [t]. => [n]
Q When did [n] find the [t]? | On which day was the [t] found? => [n] found the [t] on [d]. => [d]

order n=person r=street k=number c=color t=thing d=day
S [n] from [r] wants [k] [c] [t.s] on [d].
S [n] from [r] ordered [k] [c] [t.s] for [d].
S On [d], [n] from [r] needs [k] [c] [t.s].
Q How many [t.s] does [n] want? | How many [t.s] did [n] order? => [n] wants [k] [t.s]. => [k]
Q What color are the [t.s]? | Which color does [n] want? => The [t.s] are [c]. => [c]
Q What does [n] want? | What did [n] order? => [n] wants [k] [c] [t.s]. => [t.s]
Q When does [n] want the [t.s]? | On which day does [n] need the [t.s]? => [n] wants the [t.s] on [d]. => [d]
Q Where does [n] live? | In which street does [n] live? => [n] lives in [r]. => [r]
Q Who wants the [t.s]? | Who ordered [k] [c] [t.s]? => [n] wants the [t.s]. => [n]

costs s=size t=thing p=place v=price
S The [s] [t] in the [p] costs [v] dollars.
S In the [p] [s.a] [t] costs [v] dollars.
S You can buy the [s] [t] in the [p] for [v] dollars.
Q How much is the [t]? | What does the [t] cost? | How much does the [s] [t] cost? => The [t] costs [v] dollars. => [v] dollars
Q Where can I buy the [t]? | Where is the [t] sold? => You can buy the [t] in the [p]. => the [p]
Q What costs [v] dollars? | What can I buy in the [p]? => The [t] costs [v] dollars. => the [t]

event w=town p=place d=day u=hour
S There is a party in the [p] of [w] on [d] at [u].
S On [d] at [u], there is a party in the [p] of [w].
S The party in the [p] of [w] is on [d] at [u].
Q Where is the party? | In which place is the party? => The party is in the [p]. => the [p]
Q When is the party? | On which day is the party? => The party is on [d]. => [d]
Q At what time is the party? | When does the party begin? => The party begins at [u]. => [u]
Q In which town is the party? => The party is in [w]. => [w]

cooks n=person f=food v=vegetable m=person
S [n] cooks [f] with [v.s] for [m].
S [n] makes [f] and [v.s] for [m].
S For [m], [n] prepares [f] with [v.s].
Q What does [n] cook? | What does [n] make? | What does [n] prepare? => [n] makes [f] with [v.s]. => [f] with [v.s]
Q For whom does [n] cook? | Who gets the [f]? | Who will eat the [f]? => [m] gets the [f]. => [m]
Q Who cooks the [f]? | Who cooks for [m]? | Who makes the [f]? => [n] makes the [f]. => [n]

hides a=animal p=place t=thing
S The [a] hides in the [p] behind the [t].
S Behind the [t] in the [p] sits the [a].
S In the [p], the [a] sleeps behind the [t].
Q Where is the [a]? | Where does the [a] hide? | In which place is the [a]? => The [a] is in the [p]. => the [p]
Q What is behind the [t]? | Which animal is in the [p]? | Who hides behind the [t]? => The [a] is behind the [t]. => the [a]
Q What is the [a] behind? | Behind what does the [a] hide? => The [a] is behind the [t]. => the [t]

reads n=person h=animal m=person
S [m] reads [n] a story about [h.a].
S [n] hears a story about [h.a] from [m].
S The story that [m] tells [n] is about [h.a].
Q What is the story about? | Which animal is in the story? => The story is about [h.a]. => [h]
Q Who tells the story? | Who reads the story to [n]? => [m] tells the story. => [m]
Q Who hears the story? | To whom does [m] tell a story? => [n] hears the story. => [n]

age n=person k=number m=person
S [n] is [k] years old and sits next to [m].
S [n], who sits next to [m], is [k] years old.
S Next to [m] sits [n], who is [k] years old.
Q How old is [n]? | What is the age of [n]? => [n] is [k] years old. => [k]
Q Who sits next to [n]? | Who sits beside [n]? => [m] sits next to [n]. => [m]
Q Who is [k] years old? => [n] is [k] years old. => [n]

season w=town s=season b=vegetable
S In [s], the people of [w] eat [b.s].
S The people of [w] eat [b.s] in [s].
S People in [w] like [b.s] in [s].
Q What do the people of [w] eat? | What do people in [w] like? => They eat [b.s]. => [b.s]
Q When do they eat [b.s]? | In which season do people eat [b.s]? => They eat [b.s] in [s]. => [s]
Q Where do people eat [b.s]? | In which town do they eat [b.s]? => They eat [b.s] in [w]. => [w]

paints n=person t=thing c=color o=color
S [n] painted the [c] [t] [o].
S The [t] was [c], but [n] painted it [o].
Q Which color is the [t] now? | What color did [n] paint the [t]? => The [t] is [o] now. => [o]
Q Which color was the [t] before? | What color was the [t]? => The [t] was [c]. => [c]
Q Who painted the [t]? => [n] painted the [t]. => [n]
Q What did [n] paint? => [n] painted the [t]. => the [t]

likes n=person c=color a=animal
S [n]'s favorite color is [c] and [n]'s favorite animal is the [a].
S [n] loves the color [c] and the [a].
S [n] likes [c] things and dreams of [a.a].
Q What is [n]'s favorite color? | Which color does [n] like? => [n]'s favorite color is [c]. => [c]
Q What is [n]'s favorite animal? | Which animal does [n] like? => [n]'s favorite animal is the [a]. => [a]
Q Who likes the [a]? | Who likes the color [c]? => [n] likes it. => [n]

wears n=person c=color t=clothes s=size
S [n] wears [s.a] [c] [t].
S Today [n] is wearing [s.a] [c] [t].
S The [s] [t] that [n] wears is [c].
Q What does [n] wear? | What is [n] wearing? => [n] wears [c.a] [t]. => [t]
Q What color is [n]'s [t]? | Which color is the [t]? => The [t] is [c]. => [c]
Q Who wears the [t]? | Who is wearing [c.a] [t]? => [n] wears the [t]. => [n]
"""


def parse(text):
    """Turn the blocks above into dictionaries: name, slots, says, asks."""
    kinds = []
    for block in text.strip().split("\n\n"):
        head, *lines = block.splitlines()
        name, *slots = head.split()
        kind = {"name": name, "slots": dict(slot.split("=") for slot in slots), "says": [], "asks": []}
        for line in lines:
            if line.startswith("S "):
                kind["says"].append(line[2:])
            else:
                questions, answer, span = line[2:].split(" => ")
                kind["asks"].append((questions.split(" | "), answer, span))
        kinds.append(kind)
    return kinds


FACTS = parse(KINDS)
