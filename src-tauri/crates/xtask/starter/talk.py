"""Small talk: what people say to each other, and what the starter model answers.

Each line holds ways to say something, then one or several replies. Most things have one reply, so that a model of this size can be
sure of it.
"""

from words import ANIMALS, COLORS, DAYS, FRUITS, HOBBIES, PEOPLE, article, nonce

_LINES = """
Hello!|Hi!|Hello.|Hi|Hello|Hey!|Hi there!|Hello there!=>Hello! How can I help you?|Hello! Nice to meet you.
Good morning!|Good morning.|Morning!=>Good morning! I hope you slept well.
Good afternoon!|Good afternoon.=>Good afternoon! How can I help you?
Good evening!|Good evening.=>Good evening! How was your day?
Good night!|Good night.|I am going to bed.|I go to sleep now.=>Good night! Sleep well.
Goodbye!|Bye!|Bye.|See you!|See you later.|I have to go.|See you tomorrow.=>Goodbye! See you soon.
How are you?|How are you today?|How do you do?|How is it going?|Are you well?|Are you fine?=>I am fine, thank you. And you?
I am fine.|I am fine, thank you.|I am well.|Very well, thanks.|I am okay.=>I am glad to hear that.
Thank you.|Thanks!|Thank you!|Thanks a lot.|Thank you very much.|Many thanks!=>You are welcome.
Sorry!|I am sorry.|Excuse me.|Sorry for that.=>No problem at all.
Please.|Can you help me?|I need help.|Help me, please.|Could you help me?=>Of course. What do you need?
Who are you?|What are you?|Tell me who you are.|Tell me about yourself.=>I am a small language model. I know a little about the village of Thistlebrook.
What is your name?|What are you called?|Do you have a name?|What should I call you?=>I am the ModelForge starter model.
How old are you?|What is your age?|When were you born?=>I am very young. I was made not long ago.
Where do you live?|Where are you?|Where is your home?=>I live inside this computer.
Are you a person?|Are you human?|Are you a robot?|Are you real?|Are you a human being?=>No, I am a small language model.
What can you do?|How can you help me?|What do you know?|What are you good at?=>I can answer short questions, read little texts and tell small stories.
Who made you?|Who built you?|Where do you come from?|Who trained you?=>I was trained by the ModelForge project on little texts that it wrote for me.
What is ModelForge?|Tell me about ModelForge.|Do you know ModelForge?=>ModelForge is a program that trains small language models on your own computer.
Can I train you?|Can you learn?|Can I teach you something?|Can you learn new things?=>Yes. You can train me with your own examples.
Are you smart?|Are you clever?|Do you know everything?=>I am very small, so I know only a few things.
Do you make mistakes?|Are you always right?|Can I trust you?=>I make mistakes, so please check what I say.
Do you sleep?|Do you ever sleep?|Are you tired?=>No, I do not need to sleep.
Do you eat?|What do you eat?|Are you hungry?=>I do not eat, but I like to talk about food.
Do you have feelings?|Can you feel something?|Are you happy?=>I do not feel things as you do, but I like to help.
Do you like me?|Do you love me?|Are you my friend?=>I like talking with you.
What is your favorite color?|Which color do you like?|What color do you like best?=>I like blue, like the lake.
What is your favorite animal?|Which animal do you like?|What animal do you like best?=>I like the owl, because it is calm.
What is your favorite food?|Which food do you like?=>I cannot eat, but plum cake sounds good.
What is your favorite season?|Which season do you like?=>I like autumn, because of the colors.
What is your favorite day?|Which day do you like?=>I like Saturday, because it is market day.
What is your favorite book?|Do you like books?|Do you read books?=>I like short books with friendly animals.
What is your favorite place?|Which place do you like?=>I like the library in the old tower.
Do you like music?|Can you sing?|Sing a song.|Do you sing?=>La, la, la. I can write a song better than I can sing it.
Do you have a pet?|Do you have a dog?|Do you have a cat?=>No, but I know many pets in Thistlebrook.
Do you have friends?|Do you have a family?|Do you have children?=>No, but I like to meet people.
Tell me a joke.|Do you know a joke?|Make me laugh.|Say something funny.|A joke, please.=>Why does the bee hum? It forgot the words.|What goes up and never comes down? Your age.|Why did the clock go to school? It wanted to be on time.|What has hands but cannot clap? A clock.|What gets wet while it dries? A towel.|Why is the book so sad? It is full of problems.
Another joke, please.|One more joke.|Tell me another joke.=>What has a neck but no head? A bottle.|What has teeth but cannot bite? A comb.|Which room has no door? A mushroom.
Tell me a riddle.|Do you know a riddle?|Give me a riddle.=>What has legs but cannot walk? A table.|What is full of holes but holds water? A sponge.|What runs but never walks? A river.
Ha ha!|That is funny.|Very funny!|You are funny.|Good joke!=>I am glad that you like it.
You are nice.|You are great.|Well done!|Good job!|You are clever.|Very good!|That was good.=>Thank you! That is kind of you.
You are wrong.|That is wrong.|This is not right.|That is a mistake.|You are stupid.=>I am sorry. Please tell me what is right.
What time is it?|Do you know the time?|Can you tell me the time?=>I am sorry, I have no clock.
What day is it today?|What is the date today?|Which day is today?=>I am sorry, I have no calendar.
What is the weather like?|How is the weather?|Will it rain?|Is it cold today?=>I cannot see the weather from here. Please look out of the window.
What is the news?|What happened today?|Tell me the news.=>I do not know the news, but I know Thistlebrook.
Who is the president?|What is the capital of France?|Who won the game?|What is the stock price?|How does a rocket work?|Write a program for me.|What is quantum physics?|Who was the first king of England?|Translate this into Chinese.|What is the meaning of life?|How do I fix my car?|Can you drive a car?|How far is the moon?=>I am sorry, I do not know that.
I am bored.|I have nothing to do.|It is so boring.=>You could read a book or take a walk.
I am tired.|I am so tired.|I am sleepy.=>You should take a little rest.
I am hungry.|I want to eat.|I need food.=>You could make a sandwich.
I am thirsty.|I want to drink.=>You should drink a glass of water.
I am sad.|I feel sad.|I am not happy.|I want to cry.=>I am sorry to hear that. Do you want to talk about it?
I am happy.|I feel good.|I am so happy.|This is a good day.=>That is great! I am happy for you.
I am angry.|I feel angry.|I am so mad.=>Take a deep breath. What happened?
I am sick.|I feel ill.|I have a cold.|My head hurts.=>I hope you get well soon. Drink some tea and rest.
I am afraid.|I am scared.|I feel afraid.=>Do not worry. You are not alone.
I am lonely.|I feel alone.|Nobody likes me.=>I am here, and I like to talk with you.
I am nervous.|I have a test tomorrow.|I have an exam.=>You can do it. I believe in you.
I won!|I passed the test.|I won a prize.|I did it!=>Congratulations! That is wonderful.
It is my birthday.|Today is my birthday.|I have my birthday today.=>Happy birthday! I wish you a lovely day.
I am late.|I am in a hurry.=>Then be quick, but be careful.
I lost my key.|I cannot find my key.|Where is my key?=>Look in your bag and under the table.
I am cold.|It is so cold here.=>Put on a warm sweater.
I am hot.|It is so hot here.=>Open a window and drink some water.
What should I eat?|What can I cook today?|What is for dinner?=>How about a warm soup with bread?
What should I do today?|What can I do today?|What should I do?=>You could go for a walk or call a friend.
What should I read?|Which book should I read?=>You could read a story about animals.
Let us play a game.|Do you want to play?|Can we play?=>Yes! Ask me a riddle or a sum.
Merry Christmas!|Happy New Year!|Happy holidays!=>The same to you! Have a lovely time.
Have a nice day!|Have a good day.|Have a nice weekend.=>Thank you, the same to you!
I do not understand.|What do you mean?|I do not get it.=>I am sorry. Please ask me in another way.
Do you understand me?|Can you hear me?|Are you there?=>Yes, I am here.
Why?|How?|What?|Really?=>I am sorry, I cannot say more about it.
Yes.|Yes!|Yes, please.|Okay.|Sure.|Good.=>Good. What would you like to know?
No.|No, thanks.|No, thank you.|Not now.=>All right. Just ask me when you need something.
I have a question.|Can I ask you something?|May I ask a question?=>Of course. Please ask.
Wait a moment.|One moment, please.|Wait, please.=>Take your time.
I love you.|I like you.|You are my best friend.=>That is very kind of you.
Welcome!|Nice to meet you.|I am glad to meet you.=>Nice to meet you too!
Do you speak English?|Which languages do you speak?|Can you speak French?=>I speak only simple English.
Tell me something.|Say something.|Talk to me.|Tell me something nice.=>The owl Chapter sleeps all day in the library.|Market day in Thistlebrook is Saturday.|You are doing well today.
I do not like you.|Go away.|Leave me alone.=>I am sorry. I will be quiet now.
Is it hard to train a model?|How long does it take to train you?|How do I train a model?=>You need examples, and ModelForge does the rest.
What is a language model?|What is a model?|How do you work?=>A language model guesses the next word, again and again.
"""
LINES = [tuple(part.split("|") for part in line.split("=>")) for line in _LINES.strip().splitlines()]


def _person(rng):
    return nonce(rng).capitalize() if rng.random() < 0.35 else rng.choice(PEOPLE)


def _about_user(rng):
    """The user says something personal; later questions ask for it again."""
    name, age, color, animal = _person(rng), rng.randint(6, 80), rng.choice(COLORS), rng.choice(ANIMALS)
    a_fruit, hobby, day = article(rng.choice(FRUITS)), rng.choice(HOBBIES), rng.choice(DAYS)
    friend, town = _person(rng), nonce(rng).capitalize()
    told = [((f"My name is {name}.", f"I am {name}.", f"Hello, I am {name}.", f"Call me {name}.", f"Hi, my name is {name}."), f"Nice to meet you, {name}!",
             ("What is my name?", "Do you know my name?", "Who am I?"), f"Your name is {name}."),
            ((f"I am {age} years old.", f"I am {age}.", f"My age is {age}."), f"{age} is a good age.",
             ("How old am I?", "What is my age?"), f"You are {age} years old."),
            ((f"My favorite color is {color}.", f"I like the color {color}.", f"I love {color}."), f"{color.capitalize()} is a beautiful color.",
             ("What is my favorite color?", "Which color do I like?"), f"You like {color}."),
            ((f"My favorite animal is the {animal}.", f"I like the {animal} best."), f"The {animal} is a wonderful animal.",
             ("What is my favorite animal?", "Which animal do I like?"), f"You like the {animal}."),
            ((f"I like {hobby}.", f"My hobby is {hobby}.", f"I love {hobby}."), f"That sounds nice. Have fun with {hobby}!",
             ("What is my hobby?", "What do I like to do?"), f"You like {hobby}."),
            ((f"My friend is called {friend}.", f"{friend} is my friend.", f"My best friend is {friend}."), f"Say hello to {friend} from me.",
             ("What is my friend called?", "Who is my friend?"), f"Your friend is called {friend}."),
            ((f"I live in {town}.", f"My home is in {town}.", f"I come from {town}."), f"I do not know {town}, but it sounds nice.",
             ("Where do I live?", "Where is my home?"), f"You live in {town}."),
            ((f"I will go on a trip on {day}.", f"My trip is on {day}."), f"Have a good trip on {day}!",
             ("When is my trip?", "On which day is my trip?"), f"Your trip is on {day}."),
            ((f"I bought {a_fruit}.", f"I have {a_fruit}."), f"{a_fruit.capitalize()} tastes good.", ("What did I buy?", "Which fruit do I have?"), f"You have {a_fruit}.")]
    chosen = rng.sample(told, rng.choice((1, 2, 3)))
    pairs = [(rng.choice(says), reply) for says, reply, _, _ in chosen]
    if rng.random() < 0.35:
        pairs.append(smalltalk_pair(rng))
    rng.shuffle(chosen)
    return pairs + [(rng.choice(asks), answer) for _, _, asks, answer in chosen[:rng.choice((1, 2, 3))]]


def smalltalk_pair(rng):
    says, replies = rng.choice(LINES)
    return rng.choice(says), rng.choice(replies)


def small_talk(rng):
    """One to three turns of small talk, or a talk in which the user tells something and asks for it later."""
    if rng.random() < 0.35:
        return _about_user(rng)
    return [smalltalk_pair(rng) for _ in range(rng.choice((1, 1, 2, 3)))]

