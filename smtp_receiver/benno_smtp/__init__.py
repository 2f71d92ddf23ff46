"""benno-smtp: the SMTP daemon on the archive host."""
