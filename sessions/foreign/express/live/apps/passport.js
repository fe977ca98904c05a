// An application whose users passport signs in: the ID stands at session.passport.user,
// and the roles, which the application keeps itself, at session.roles.
const express = require(`express-${process.env.EXPRESS}`)
const { Passport } = require(`passport-${process.env.PASSPORT}`)

const passport = new Passport()
passport.serializeUser((user, done) => done(null, user.id))
passport.deserializeUser((id, done) => done(null, { id }))

const app = express()
app.use(require('./store')())
app.use(passport.initialize())
app.use(passport.session())

app.get('/login', (request, response, next) => {
  const { uid, roles } = request.query
  request.logIn({ id: Number(uid) }, (error) => { // since 0.6 it makes a new session
    if (error) return next(error)
    request.session.roles = roles ? roles.split(',') : []
    response.redirect('/me')
  })
})
app.get('/anon', (request, response) => {
  request.session.visits = (request.session.visits || 0) + 1
  response.json({ visits: request.session.visits })
})
app.get('/me', (request, response) => response.json({ user: request.user?.id ?? null }))
app.get('/logout', (request, response, next) => {
  const out = (error) => error ? next(error) : response.redirect('/me')
  if (process.env.PASSPORT === '0.5') { // leaves the session, without its user
    request.logout()
    return out()
  }
  request.logout(out)
})
app.use((request, response) => response.json({ page: request.path, user: request.user?.id ?? null, headers: request.headers }))

const server = app.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`))
