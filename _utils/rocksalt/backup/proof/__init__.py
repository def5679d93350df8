"""What a vault holds, judged without a key that decrypts: the chain, receipts, hashes."""
