"""Speaking to servers of language models: OpenAI's `/v1` over HTTP/1.1, passed through.

`http1` reads responses, `upstream` keeps connections; what an answer means is `services/gateway/reply`.
"""
