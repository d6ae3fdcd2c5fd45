"""The OpenAI API in front of Triton Inference Server: HTTP in, one gRPC stream per request out."""
