package usersource

// The first keys of the sources.
const (
	UsersFile = "login.users_file"
	Postgres  = "login.postgres.dsn"
)

// Sources are all sources, in the order of the reference.
var Sources = []Source{
	{
		Keys: []Key{
			{Name: UsersFile, File: true, Common: true, Usage: "YAML file with the users; read again when it changes"},
		},
		Open: openUsersFile,
		Find: findInFile,
	},
	{
		Keys: []Key{
			{Name: Postgres, Secret: true, Usage: "PostgreSQL database with the users: a URL, or keywords and values"},
			{Name: postgresPasswordFile, File: true,
				Usage: "file with the password of the database; read again for each new connection"},
			{Name: postgresQuery, Required: true,
				Usage: "query that finds the user named $1: columns id, username, hash, roles, attributes"},
			{Name: postgresRenewQuery,
				Usage: "statement that stores the hash $1 for the user with the id $2 in place of the hash $3; empty: " +
					"hashes are not renewed"},
		},
		Open: openPostgres,
		Find: findInPostgres,
	},
}
