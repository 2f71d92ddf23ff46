-- An address that cannot be written: the mail is refused at its end, and the next one taken.

dofile("mail.lua")
conn = connect()
envelope(conn, "<a@b>", "<c\r@d>")
content(conn, "bad")
finish(conn, SMFIR_REPLYCODE)
text = "Address contains a control character that cannot be archived"
expect("reply", mt.eom_check(conn, MT_SMTPREPLY, "553", "5.1.3", text), true)
deliver(conn, "<a@b>", "<c@d>", "good")
mt.disconnect(conn)
