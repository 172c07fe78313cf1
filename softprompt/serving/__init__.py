"""The tuned model as a server that speaks OpenAI's protocol: questions that wait are answered as one batch."""
