-- The daemon was started with a reserve that no disk has: MAIL is refused, for the time being.

dofile("mail.lua")
conn = connect()
expect("MAIL", mt.mailfrom(conn, "<a@b>"), nil)
expect("the answer to MAIL", mt.getreply(conn), SMFIR_REPLYCODE)
expect("ABORT", mt.abort(conn), nil)
expect("MAIL", mt.mailfrom(conn, "<a@b>"), nil)
expect("the answer to the second MAIL", mt.getreply(conn), SMFIR_REPLYCODE)
mt.disconnect(conn)
