"""What milter, forwarder and receiver share: the mail file, durability, configuration, log, service."""

VERSION = "3.0.0.dev0"
