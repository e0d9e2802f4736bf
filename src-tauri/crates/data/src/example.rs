//! A row's meaning, whatever fields it was written in, and the conversation a task makes of it.

use types::{Message, Role, Task};

/// What one row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Example {
    /// A conversation that ends with the assistant.
    Chat {
        /// Its turns; at least one of the person before the last one.
        messages: Vec<Message>,
    },
    /// A prompt or document, and what is to come out.
    Pair {
        /// The prompt, or the text to summarize.
        input: String,
        /// The answer.
        output: String,
    },
    /// A question about a text.
    Question {
        /// The text that holds the answer.
        context: String,
        /// The question.
        question: String,
        /// Answers that count as right; the first is trained. None where the text does not answer the question.
        answers: Vec<String>,
        /// Where the first answer begins in the text, in characters, if the dataset tells.
        start: Option<usize>,
    },
    /// Two answers to the same conversation, one better than the other.
    Preference {
        /// The conversation up to the answers.
        prompt: Vec<Message>,
        /// The better continuation.
        chosen: Vec<Message>,
        /// The worse continuation.
        rejected: Vec<Message>,
    },
}

/// What a prompt of a task is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptParts<'a> {
    /// The prompt, the text to summarize, or the context that holds the answer.
    pub text: &'a str,
    /// The question about the text; only extractive question answering has one.
    pub question: Option<&'a str>,
}

/// The person's message for a task, the same in training, chat and measuring.
///
/// Extractive question answering: `Context: {text}\n\nQuestion: {question}` (the text alone where there is no question);
/// summarization: `Summarize the following text.\n\n{text}`; text generation: the text as it is.
pub fn prompt_for(task: Task, parts: PromptParts<'_>) -> String {
    let text = parts.text;
    match (task, parts.question) {
        (Task::Summarization, _) => format!("{SUMMARIZE}{text}"),
        (Task::ExtractiveQuestionAnswering, Some(question)) => {
            format!("{CONTEXT}{text}{QUESTION}{question}")
        }
        (Task::ExtractiveQuestionAnswering | Task::TextGeneration, _) => text.to_owned(),
    }
}

/// Text and question of a message that [`prompt_for`] made for extractive question answering; `None` where it did not.
pub fn question_of(message: &str) -> Option<PromptParts<'_>> {
    let (text, question) = message.trim().strip_prefix(CONTEXT)?.rsplit_once(QUESTION)?;
    Some(PromptParts { text, question: Some(question) })
}

pub(crate) const SUMMARIZE: &str = "Summarize the following text.\n\n";
const CONTEXT: &str = "Context: ";
const QUESTION: &str = "\n\nQuestion: ";

impl Example {
    /// The whole conversation to train on; of a preference, the better one.
    pub fn to_messages(&self, task: Task) -> Vec<Message> {
        match self {
            Self::Chat { messages } => messages.clone(),
            Self::Pair { input, output } => {
                let parts = PromptParts { text: input, question: None };
                vec![Message::user(prompt_for(task, parts)), Message::assistant(output)]
            }
            Self::Question { context, question, answers, .. } => {
                let parts = PromptParts { text: context, question: Some(question) };
                let answer = answers.first().map_or("", String::as_str);
                let prompt = prompt_for(Task::ExtractiveQuestionAnswering, parts);
                vec![Message::user(prompt), Message::assistant(answer)]
            }
            Self::Preference { prompt, chosen, .. } => [prompt.as_slice(), chosen].concat(),
        }
    }

    /// The conversation without the last answer: what the model is asked when it is measured.
    pub fn prompt_messages(&self, task: Task) -> Vec<Message> {
        let mut messages = self.to_messages(task);
        if messages.last().is_some_and(|m| m.role == Role::Assistant) {
            messages.pop();
        }
        messages
    }

    /// The answers that count as right.
    pub fn answers(&self) -> Vec<&str> {
        match self {
            Self::Chat { messages } | Self::Preference { chosen: messages, .. } => {
                messages.last().map(|m| m.content.as_str()).into_iter().collect()
            }
            Self::Pair { output, .. } => vec![output],
            Self::Question { answers, .. } => answers.iter().map(String::as_str).collect(),
        }
    }

    /// The worse conversation of a preference.
    pub fn rejected_messages(&self) -> Option<Vec<Message>> {
        match self {
            Self::Preference { prompt, rejected, .. } => Some([prompt.as_slice(), rejected].concat()),
            _ => None,
        }
    }

    /// Bytes at the start and the end of the last user message that say what to do, and are not to be cut when the
    /// row is too long.
    pub(crate) fn fixed_ends(&self, task: Task) -> (usize, usize) {
        match self {
            Self::Pair { .. } if task == Task::Summarization => (SUMMARIZE.len(), 0),
            Self::Question { question, .. } => (CONTEXT.len(), QUESTION.len() + question.len()),
            _ => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_found_again_in_the_message_made_of_it() {
        for (text, question) in
            [("a text", "why?"), ("two\n\nparts", " why? "), ("Context: x\n\nQuestion: y", "z"), ("", "why?")]
        {
            let parts = PromptParts { text, question: Some(question) };
            let message = prompt_for(Task::ExtractiveQuestionAnswering, parts);
            let found = question_of(&message).unwrap();
            assert_eq!((found.text, found.question.unwrap()), (text, question.trim_end()), "{message:?}");
        }
        for message in ["why?", "Context: a text", "Question: why?", ""] {
            assert_eq!(question_of(message), None, "{message:?}");
        }
    }
}
