import { createApp } from 'vue'
import { createRouter, createWebHistory } from 'vue-router'
import App from './App.vue'
import Home from './Home.vue'

const routes = [
  { path: '/', component: Home },
  { path: '/experiments/:id', component: () => import('./Experiment.vue') },
]

createApp(App).use(createRouter({ history: createWebHistory(), routes })).mount('#app')
