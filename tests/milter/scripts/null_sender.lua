-- A bounce.

dofile("mail.lua")
conn = connect()
deliver(conn, "<>", "<c@d>", "bounce")
mt.disconnect(conn)
