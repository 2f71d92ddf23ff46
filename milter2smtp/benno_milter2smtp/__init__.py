"""benno-milter2smtp: sends the mail in the spool to the archive host."""
