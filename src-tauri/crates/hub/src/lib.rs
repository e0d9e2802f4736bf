//! The Hugging Face Hub: who one is there, what a repository is, downloading it and pushing to it.
