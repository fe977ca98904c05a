package rig

// Spellings are names of identity headers, and names that some upstreams read as
// identity headers.
var Spellings = []string{
	"x-user-id", "X-USER-ID", "x_user_id", "X_User_Id", "x.user.id", "X.User-Id", "x-user_id", "x~user!id",
	"x-user-roles", "X_User.Roles", "x.user.name", "x-user-session", "x_user_session", "x-user-tenant", "x-user-anything", "X-User-",
}
