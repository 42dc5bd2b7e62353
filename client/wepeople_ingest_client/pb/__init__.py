"""Generated from proto/ and client/proto/ by `make gen`. Do not edit."""
