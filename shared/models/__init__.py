"""Outbound models: sentence embeddings and chat, local and over HTTP.

The only package that imports openai, onnxruntime and tokenizers, and only inside the
functions that need them: a role that asks no model pays for none.
"""
