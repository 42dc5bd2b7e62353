"""Drivers, doubles, proxies and process starters that tests share."""
