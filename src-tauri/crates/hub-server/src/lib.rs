//! A server that speaks the protocol of the Hugging Face Hub, for tests: nothing here is part of the product.
