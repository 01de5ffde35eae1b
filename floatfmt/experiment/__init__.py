"""A language model quantised: its weights, text and perplexity, before and after; needs torch."""
