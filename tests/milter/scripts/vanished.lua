-- The MTA is gone in the middle of a mail.

dofile("mail.lua")
conn = connect()
envelope(conn, "<a@b>", "<c@d>")
content(conn, "lost")
mt.disconnect(conn, false)
