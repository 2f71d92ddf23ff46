"""The milter: what Postfix or Sendmail accepts is archived before the sender hears so."""
