"""Assets: what pipelines wait for, by ``mxpipe://`` addresses."""
