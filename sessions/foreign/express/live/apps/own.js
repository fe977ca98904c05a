// An application that keeps its user at session.user, as many teams write it.
const express = require(`express-${process.env.EXPRESS}`)

const app = express()
app.use(require('./store')())

app.get('/login', (request, response, next) => {
  request.session.regenerate((error) => {
    if (error) return next(error)
    const { uid, name, roles } = request.query
    request.session.user = { userId: Number(uid), username: name, roles: roles ? roles.split(',') : [] }
    response.redirect('/me')
  })
})
app.get('/anon', (request, response) => { // a visitor with a basket
  request.session.visits = (request.session.visits || 0) + 1
  response.json({ visits: request.session.visits })
})
app.get('/me', (request, response) => response.json({ user: request.session.user?.userId ?? null }))
app.get('/logout', (request, response, next) => {
  request.session.destroy((error) => error ? next(error) : response.redirect('/me'))
})
app.use((request, response) => response.json({ page: request.path, user: request.session.user?.userId ?? null, headers: request.headers }))

const server = app.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`))
